"""Which models make the picture, in which style, with which knobs."""
