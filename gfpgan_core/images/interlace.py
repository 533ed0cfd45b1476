"""Detect and deinterlace stills from interlaced video, whose odd and even lines differ in time."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core.images.photo import ImageU8

# Lines of the largest interlaced video: a larger photo was never interlaced, or was resized.
_MAX_HEIGHT_PX = 1200
# A pixel is combed if it differs from both neighbors in the same direction by this (product).
_COMBED = 15 * 15
# Of all pixels; still parts of a picture show no comb.
_COMBED_SHARE = 0.02
# Noise and texture differ along lines as well: combs differ across them only.
_COMBED_RATIO = 4


def is_interlaced(image: ImageU8) -> bool:
    """Return whether a picture shows the combs of interlaced video in motion."""
    if not 16 <= image.shape[0] <= _MAX_HEIGHT_PX:
        return False
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.int32)
    across_lines = _combed_share(luma)
    return across_lines > _COMBED_SHARE and across_lines > _COMBED_RATIO * _combed_share(luma.T)


def _combed_share(luma: NDArray[np.int32]) -> float:
    """Return the share of pixels that stand out from the lines above and below alike."""
    middle = luma[1:-1]
    return float(np.mean((middle - luma[:-2]) * (middle - luma[2:]) > _COMBED))


def deinterlace(image: ImageU8) -> ImageU8:
    """Return the picture of the even lines (the first, third ...); the others are interpolated."""
    result = image.copy()
    even = image[::2]
    between = cv2.addWeighted(even[:-1], 0.5, even[1:], 0.5, 0)
    result[1 : 1 + 2 * len(between) : 2] = between
    if image.shape[0] % 2 == 0:
        result[-1] = image[-2]
    return result
