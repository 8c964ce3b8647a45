"""The painters: how a photo becomes marks, a file a style. They make the targets that `mini` learns from.

Nothing in `portrait/` imports them: the product draws the marks that the model asks for.
"""
