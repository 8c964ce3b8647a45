"""Stable Diffusion 1.5 and XL with an identity adapter: FaceID, FaceID-PlusV2, plus-face or InstantID."""
