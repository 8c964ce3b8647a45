"""Photos of any kind into sRGB pixels, pictures out, and the photos of a folder."""

from portrait.images.decode import MAX_PIXELS, Photo, as_photo, decode, decode_photo, read_photo
from portrait.images.search import photos_below
from portrait.images.write import (
    COARSE_CHROMA,
    WRITE_FORMATS,
    encode_picture,
    pixels_sha256,
    resized,
    write_bytes,
    write_json,
    write_picture,
)

__all__ = [
    "COARSE_CHROMA",
    "MAX_PIXELS",
    "WRITE_FORMATS",
    "Photo",
    "as_photo",
    "decode",
    "decode_photo",
    "encode_picture",
    "photos_below",
    "pixels_sha256",
    "read_photo",
    "resized",
    "write_bytes",
    "write_json",
    "write_picture",
]
