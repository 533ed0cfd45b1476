"""Decode untrusted image files, told by their content and not by their names."""

from __future__ import annotations

import math
import os
import stat
import warnings
from pathlib import Path
from typing import Any

from PIL import Image

from gfpgan_core.bounds import MAX_IMAGE_BYTES
from gfpgan_core.errors import InputError
from gfpgan_core.formats import READABLE_TEXT, default_format
from gfpgan_core.images.metadata import metadata_of
from gfpgan_core.images.opening import open_checked, pages_in
from gfpgan_core.images.photo import ImageU8, Photo
from gfpgan_core.images.pixels import check_samples, orientation_of, to_rgb

# Pillow gives a TIFF that says nothing 1 dpi; software that knows nothing better writes 1 as well.
_NO_DPI, _MAX_DPI = 1.0, 100_000.0
_EXIF_X_RESOLUTION, _EXIF_Y_RESOLUTION, _EXIF_RESOLUTION_UNIT = 282, 283, 296
_EXIF_CENTIMETERS = 3
_SIDEWAYS = (5, 6, 7, 8)  # of EXIF's orientations


def decode(data: bytes, name: str = "the image", page: int = 1) -> Photo:
    """Return the photo in a file's bytes.

    16-bit and palette images become 8-bit, CMYK, Lab and other profiles sRGB; the camera's
    orientation is applied. `page` chooses a frame of an animation or a page of a TIFF, from 1.

    Raises:
        InputError: no image, damaged, too large, too small or too costly, of samples without a
            defined black and white, or without such a page. `name` is used in its text.
    """
    if not data:
        raise InputError(f"{name} is empty (0 bytes): allowed are {READABLE_TEXT}")
    image = open_checked(data, name, page)
    check_samples(image, name)
    file_format = default_format(image.format)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if image.format != "TIFF":  # a TIFF's tags go when it is decoded
                # Before its EXIF is asked for: Pillow decodes a PNG to find it, and what that
                # raises would pass for missing EXIF; a second decoding gives black, and no error.
                image.load()
            dpi = _dpi(image)
            metadata = metadata_of(image)
            rgb, alpha = to_rgb(image)
    except MemoryError as error:
        raise InputError(f"{name} needs more memory than there is: resize it first") from error
    except Exception as error:  # broken files make Pillow raise all kinds of errors
        detail = f": {error}" if isinstance(error, OSError) and str(error) else ""
        raise InputError(f"{name} is damaged or cut off{detail}") from error
    return Photo(rgb, alpha, file_format, dpi, page, max(page, pages_in(data)), metadata)


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution in pixels per inch of the upright photo, if there is a usable one."""
    try:
        across, down = (float(number) for number in image.info.get("dpi") or _exif_dpi(image))
    except Exception:  # broken tags: all kinds of errors
        return None
    if not all(math.isfinite(d) and _NO_DPI < d <= _MAX_DPI for d in (across, down)):
        return None
    return (down, across) if orientation_of(image) in _SIDEWAYS else (across, down)


def _exif_dpi(image: Image.Image) -> tuple[Any, Any]:
    """Return what EXIF says: WebP has no other place for it, and Pillow reads that of JPEG only."""
    exif = image.getexif()
    per_inch = 2.54 if exif.get(_EXIF_RESOLUTION_UNIT) == _EXIF_CENTIMETERS else 1
    return exif[_EXIF_X_RESOLUTION] * per_inch, exif[_EXIF_Y_RESOLUTION] * per_inch


def read(path: Path, name: str | None = None, page: int = 1) -> Photo:
    """Return the photo in a file, called `name` in error texts.

    Raises:
        InputError: as `decode`, or the file can't be read, is none, or is too large.
    """
    shown = name or path.name
    try:
        # Without waiting for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(f"{shown} is no file, but a folder, pipe, socket or device")
            if status.st_size > MAX_IMAGE_BYTES:
                raise InputError(
                    f"{shown} has {status.st_size} bytes; a photo may have at most"
                    f" {MAX_IMAGE_BYTES}"
                )
            data = file.read(MAX_IMAGE_BYTES)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    return decode(data, shown, page)


def read_rgb(path: Path) -> ImageU8:
    """Return the (H, W, 3) pixels of a file."""
    return read(path).rgb
