"""Qwen-Image-Edit: the person is shown as pictures, and the style is an instruction, which is read along with them."""
