"""Marks, such as brush strokes: `mini` decodes its latents to them, and a rasterizer draws them from a seed at any size."""
