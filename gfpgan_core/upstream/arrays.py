"""Convert the pictures that upstream's `enhance` takes to 8-bit BGR."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8

_logger = logging.getLogger(__name__)

# Upstream takes an array with a value above it for one of 16 bits, whatever its type.
_LARGEST_OF_8_BITS = 256
_LARGEST_OF_16_BITS = 65535

AnyPicture = NDArray[Any] | Path | str


def as_bgr(picture: AnyPicture) -> ImageU8:
    """Return a picture that upstream's `enhance` takes as (H, W, 3) BGR, 0..255.

    It is the path of a file, or an array of any number type: (H, W), (H, W, 1), (H, W, 3) or, with
    its alpha dropped, (H, W, 4), of 0..255, or of 0..65535 where a value is above 256.

    Raises:
        InputError: neither.
    """
    if isinstance(picture, (str, Path)):
        return cv2.cvtColor(images.read_rgb(Path(picture)), cv2.COLOR_RGB2BGR).astype(np.uint8)
    levels = levels_u8(picture)
    if levels.ndim == 2 or levels.shape[2] == 1:
        return np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(levels[..., :3])


def levels_u8(array: NDArray[Any]) -> ImageU8:
    """Return the array in 0..255, of its own shape; an 8-bit one as it is.

    Raises:
        InputError: no picture, values below 0 or above 65535, or none.
    """
    if not isinstance(array, np.ndarray):
        hint = ": cv2.imread gives None for a file that it can't read" if array is None else ""
        raise InputError(f"the picture is {type(array).__name__}, and must be an array{hint}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InputError(
            f"the array has shape {array.shape}; allowed: (H, W), and (H, W, C) with 1, 3 (BGR) or"
            " 4 (BGRA) channels"
        )
    if array.dtype == np.uint8 or array.size == 0:
        return np.asarray(array, np.uint8)
    if array.dtype.kind not in "uif":
        raise InputError(f"the array is of type {array.dtype}; allowed: integers and floats")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= _LARGEST_OF_16_BITS):  # NaN as well
        raise InputError(
            f"the array has values from {low:g} to {high:g}; allowed: 0 to 255, or 0 to 65535"
        )
    if array.dtype.kind == "f" and 0 < high <= 1:
        _logger.warning(
            "a float picture has values up to %g: as upstream does, it is taken for one of 0 to 255"
            " that is nearly black. Multiply it by 255",
            high,
        )
    factor = 255 / _LARGEST_OF_16_BITS if high > _LARGEST_OF_8_BITS else 1.0
    return np.clip(np.rint(array * factor), 0, 255).astype(np.uint8)


def flipped(image: ImageU8) -> ImageU8:
    """Return (H, W, 3) with the channels in reverse order: RGB for BGR and BGR for RGB."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
