"""Read photos of any kind as sRGB pixels, write pictures, and list the photos of a folder."""

from portrait.images.decode import MAX_PIXELS, Photo, as_photo, decode_photo, read_photo, read_picture, turned
from portrait.images.search import PHOTO_SUFFIXES, PassedOver, photos_below, photos_in
from portrait.images.write import (
    COARSE_CHROMA,
    WRITE_FORMATS,
    encode_picture,
    kind_of,
    pixels_sha256,
    resized,
    thumbnail,
    write_picture,
)

__all__ = [
    "COARSE_CHROMA", "MAX_PIXELS", "PHOTO_SUFFIXES", "WRITE_FORMATS", "PassedOver", "Photo", "as_photo",
    "decode_photo", "encode_picture", "kind_of", "photos_below", "photos_in", "pixels_sha256", "read_photo",
    "read_picture", "resized", "thumbnail", "turned", "write_picture",
]  # fmt: skip
