"""What is gray, and how it stays so."""

from __future__ import annotations

import cv2
import numpy as np

from gfpgan_core.images.photo import ImageU8

# Channels differ by more: of gray saved as a color JPEG, rounding makes up to 2.
_COLORED = 2
# No paper, no print, no fold: colored on purpose, such as a camera's orange date.
_STRONGLY_COLORED = 32
# Black and white have no color in a color photo either, and pages hold much of both.
_BLACK, _WHITE = 12, 243
# Of the pixels that are neither: noise and a date stay below, faint sepia is far above.
_COLORED_SHARE = 0.05
# Color around a strongly colored pixel is its own: anti-aliasing, and half-resolution chroma.
_HALO_PX = 9

_BAND_PIXELS = 2**22


def gray(image: ImageU8) -> ImageU8:
    """Return the image's luma (BT.601) in all three channels."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB), np.uint8)


def is_gray(image: ImageU8) -> bool:
    """Return whether (H, W, 3) pixels are black-and-white, apart from small colored spots.

    Decided on the pixels that are neither black nor white: a small color portrait on a white page
    is not gray, whatever the page's size.
    """
    colored = counted = 0
    rows = max(1, _BAND_PIXELS // image.shape[1])
    for top in range(0, image.shape[0], rows):
        lowest, highest = _extremes(image[top : top + rows])
        inside = (highest > _BLACK) & (lowest < _WHITE)
        counted += int(np.count_nonzero(inside))
        colored += int(np.count_nonzero(inside & (cv2.subtract(highest, lowest) > _COLORED)))
    return colored <= _COLORED_SHARE * counted


def keep_gray(restored: ImageU8, original: ImageU8) -> ImageU8:
    """Return `restored` without color where `original` has none.

    A color photo is returned as it is; of a gray one only what is strongly colored, such as an
    orange date, keeps its color. `restored` may be larger or smaller than `original`.
    """
    if not is_gray(original):
        return restored
    result = gray(restored)
    strong = cv2.subtract(*_extremes(original)[::-1]) > _STRONGLY_COLORED
    if strong.any():
        halo = cv2.dilate(strong.astype(np.uint8), np.ones((_HALO_PX, _HALO_PX), np.uint8))
        size_wh = (restored.shape[1], restored.shape[0])
        colored = cv2.resize(halo, size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)
        result[colored] = restored[colored]
    return result


def _extremes(image: ImageU8) -> tuple[ImageU8, ImageU8]:
    """Return each pixel's lowest and highest channel."""
    red, green, blue = cv2.split(image)
    lowest = cv2.min(cv2.min(red, green), blue)
    highest = cv2.max(cv2.max(red, green), blue)
    return np.asarray(lowest, np.uint8), np.asarray(highest, np.uint8)
