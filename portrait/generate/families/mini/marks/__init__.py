"""Marks: what `mini` decodes its latents to, and the rasterizer that draws them from a seed at any size."""
