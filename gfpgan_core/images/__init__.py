"""Convert files to pixels to tensors and back: formats and value ranges are known here alone."""

from __future__ import annotations

from gfpgan_core.formats import SUFFIXES, Format
from gfpgan_core.images.color import gray, is_gray, keep_gray, keep_gray_face
from gfpgan_core.images.metadata import Metadata
from gfpgan_core.images.opening import check_input_size, size_of
from gfpgan_core.images.photo import ImageU8, Photo
from gfpgan_core.images.reading import decode, read, read_rgb
from gfpgan_core.images.tensors import from_pm1, to_pm1
from gfpgan_core.images.writing import chosen_format, encode, preview, preview_size_wh, write

__all__ = [
    "SUFFIXES",
    "Format",
    "ImageU8",
    "Metadata",
    "Photo",
    "check_input_size",
    "chosen_format",
    "decode",
    "encode",
    "from_pm1",
    "gray",
    "is_gray",
    "keep_gray",
    "keep_gray_face",
    "preview",
    "preview_size_wh",
    "read",
    "read_rgb",
    "size_of",
    "to_pm1",
    "write",
]
