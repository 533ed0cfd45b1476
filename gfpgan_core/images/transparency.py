"""Replace the colors of transparent pixels, which resampling would bring to visible edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core.images.photo import ImageU8

_BAND_PIXELS = 2**21
# Beyond it nothing looks: Lanczos sees 4 px, the largest background network 64.
_REACH_PX = 96


def spread_colors(rgb: ImageU8, alpha: ImageU8) -> ImageU8:
    """Return (H, W, 3) with each fully transparent pixel in its nearest visible pixel's color.

    Editors fill what is transparent with black or anything else; enlarged as it is, it would give
    a cut-out a dark outline. Visible pixels are unchanged. Farther than `_REACH_PX` from all of
    them, the visible pixels' mean color is taken.
    """
    if alpha.all() or not alpha.any():
        return rgb
    result = rgb.copy()
    height, width = alpha.shape
    mean = np.array(cv2.mean(rgb, (alpha != 0).astype(np.uint8))[:3]).round().astype(np.uint8)
    rows = max(_REACH_PX, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - _REACH_PX), min(height, bottom + _REACH_PX)
        clear = alpha[first:last] == 0
        if not clear.any():
            continue
        filled = _filled(rgb[first:last], clear, mean)
        result[top:bottom] = filled[top - first : bottom - first]
    return result


def _filled(rgb: ImageU8, clear: NDArray[np.bool_], mean: ImageU8) -> ImageU8:
    if clear.all():
        return np.broadcast_to(mean, rgb.shape)
    distance, nearest = cv2.distanceTransformWithLabels(
        clear.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colors = np.zeros((int(nearest.max()) + 1, 3), np.uint8)
    colors[nearest[~clear]] = rgb[~clear]
    filled = colors[nearest]
    filled[distance > _REACH_PX] = mean
    return np.asarray(filled, np.uint8)
