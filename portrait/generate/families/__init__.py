"""The model families: a folder each, with how its networks are loaded, fed and run."""
