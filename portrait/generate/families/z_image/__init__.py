"""Z-Image-Turbo: img2img in few steps, guided by the photo's outlines through a ControlNet.

Only the photo conditions the person.
"""
