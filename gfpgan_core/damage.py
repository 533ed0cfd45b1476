"""Estimate how damaged an aligned face is, from its own pixels, for `blend="auto"`.

The network's output is not used, so that the estimate is the same for all weights. The figures are
in docs/blend.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core.images import ImageU8

# The steepness of edges at two scales, in pixels of the crop: an edge that is sharp at the finer
# one is as steep at both (ratio 1), one that is wider than both is 4 times less steep (ratio 1/4).
_FINE_PX, _COARSE_PX = 0.7, 2.8
_STRONG_EDGES = 99  # percentile of the steepness: edges, not skin
# Of 20 undamaged faces: 0.46 to 0.57; blurred by 3 px and reduced to a quarter: 0.29 to 0.31.
_SHARP, _BLURRED = 0.44, 0.28

# Gray levels. Skin's texture: at most 1.9. The best share for noise of 10 levels alone is 0.13, of
# 20 levels 0.36: restoring costs more detail than the noise hides.
_QUIET, _NOISY = 3.0, 30.0
# The second difference both ways: zero on flats, slopes and straight edges (Immerkaer, 1996).
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6
_MEDIAN_OF_NORMAL = 0.6745  # the median of a normal distribution's absolute values, in sigmas

# Of each side, left out: what lies there is background.
_MARGIN = 1 / 8


@dataclass(frozen=True)
class Damage:
    """The estimated damage of an aligned crop."""

    sharpness: float
    """1: its edges are as steep as an undamaged face's; 0: as a face's that was blurred or enlarged
    until nothing of fine detail is left."""
    noise: float
    """Standard deviation of the luma's noise, in gray levels."""

    @property
    def blend(self) -> float:
        """Share of the restored face that it asks for, 0 to 1."""
        by_noise = float(np.clip((self.noise - _QUIET) / (_NOISY - _QUIET), 0, 1))
        return round(max(1 - self.sharpness, by_noise), 2)


def damage_of(crop: ImageU8) -> Damage:
    """Estimate the damage of an aligned face, (size, size, 3) RGB."""
    luma = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32)
    margin = round(len(luma) * _MARGIN)
    face = slice(margin, len(luma) - margin)
    noise = np.median(np.abs(cv2.filter2D(luma, -1, _NOISE_KERNEL)[face, face]))
    fine, coarse = (_steepness(luma, scale)[face, face] for scale in (_FINE_PX, _COARSE_PX))
    strongest = float(np.percentile(coarse, _STRONG_EDGES))
    ratio = float(np.percentile(fine, _STRONG_EDGES)) / max(strongest, 1e-3)
    sharpness = float(np.clip((ratio - _BLURRED) / (_SHARP - _BLURRED), 0, 1))
    return Damage(round(sharpness, 3), round(float(noise) / _MEDIAN_OF_NORMAL, 2))


def _steepness(luma: NDArray[np.float32], scale_px: float) -> NDArray[np.float32]:
    """Return the gradient's length at a scale, times the scale: of a step edge it is the same."""
    smooth = cv2.GaussianBlur(luma, (0, 0), scale_px)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(across, down) * (scale_px / 8), np.float32)
