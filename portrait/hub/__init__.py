"""Public model files: the manifest, the pins, the store on this machine, and the downloads that fill it."""
