"""Augment the ground truth: small random shifts, turns and scales, and changes of the light.

The network must cope with landmarks that are a few pixels off, and with different light. A change
that is switched off draws nothing from the random generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_SIZE_PX
from gfpgan_core.images import ImageU8

Boxes = NDArray[np.float64]


@dataclass(frozen=True)
class AugmentationConfig:
    """Ranges are drawn from uniformly; the defaults leave the face as it is, but for the flip."""

    flip: bool = True
    """Mirror half of the faces."""
    warp_probability: float = 0.0
    """Shift, turn and scale."""
    shift_px: float = 8.0
    """Largest shift along each axis, in pixels of a 512 px face."""
    turn_degrees: float = 4.0
    """Largest turn, either way."""
    scale: tuple[float, float] = (0.97, 1.06)
    light_probability: float = 0.0
    """Change brightness, contrast and warmth of the ground truth, and so of the input as well."""
    gamma: tuple[float, float] = (0.75, 1.35)
    """Above 1 darkens."""
    contrast: tuple[float, float] = (0.8, 1.15)
    warmth: float = 0.08
    """Largest change of red against blue, as a share."""

    def __post_init__(self) -> None:
        for name in ("warp_probability", "light_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")
        for name in ("scale", "gamma", "contrast"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise InputError(f"{name} is {(low, high)}; allowed: above 0, the smaller first")
        if self.shift_px < 0 or self.turn_degrees < 0 or not 0 <= self.warmth < 1:
            raise InputError("shift_px and turn_degrees from 0 on, warmth from 0 to below 1")


def augment(
    face: ImageU8, boxes: Boxes, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[ImageU8, Boxes]:
    """Return the face (size, size, 3) RGB and its (3, 3) component boxes, changed at random.

    Neither input is modified.
    """
    if config.warp_probability and rng.random() < config.warp_probability:
        face, boxes = warp(face, boxes, config, rng)
    if config.light_probability and rng.random() < config.light_probability:
        face = change_light(
            face,
            gamma=rng.uniform(*config.gamma),
            contrast=rng.uniform(*config.contrast),
            warmth=rng.uniform(-config.warmth, config.warmth),
        )
    return face, boxes


def warp(
    face: ImageU8, boxes: Boxes, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[ImageU8, Boxes]:
    """Shift, turn and scale about the center; beyond the border the face is mirrored."""
    side = face.shape[0]
    middle = ((side - 1) / 2,) * 2
    turn = rng.uniform(-config.turn_degrees, config.turn_degrees)
    scale = rng.uniform(*config.scale)
    matrix = cv2.getRotationMatrix2D(middle, turn, scale)
    matrix[:, 2] += rng.uniform(-1, 1, 2) * config.shift_px * side / TEMPLATE_SIZE_PX
    moved = boxes.copy()
    moved[:, :2] = boxes[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    moved[:, 2] *= scale
    flags, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT_101
    warped = cv2.warpAffine(face, matrix, (side, side), flags=flags, borderMode=border)
    return np.asarray(warped, np.uint8), moved


def change_light(face: ImageU8, *, gamma: float, contrast: float, warmth: float) -> ImageU8:
    """Apply a gamma, then contrast about mid-gray, then red against blue."""
    levels = np.linspace(0, 1, 256) ** gamma
    levels = 0.5 + (levels - 0.5) * contrast
    gains = np.array([math.sqrt(1 + warmth), 1.0, math.sqrt(1 - warmth)])
    table = np.clip(np.rint(levels[:, None] * gains * 255), 0, 255).astype(np.uint8)  # (256, 3)
    return np.stack([table[face[..., c], c] for c in range(3)], axis=2)
