"""FLUX.2 klein: the person is shown as pictures, and the style is an instruction."""
