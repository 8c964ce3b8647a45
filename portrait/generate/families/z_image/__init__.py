"""Z-Image-Turbo: img2img of few steps, held to the photo's outlines by a ControlNet; nothing of the person but the photo."""
