"""The models, styles and knobs that make a picture."""
