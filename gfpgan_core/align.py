"""A face in an image to an aligned square crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gfpgan_core import geometry
from gfpgan_core.detectors import Face
from gfpgan_core.geometry import Transform
from gfpgan_core.images import ImageU8


@dataclass(frozen=True)
class Crop:
    """An aligned face."""

    pixels: ImageU8
    """(size, size, 3) RGB."""
    crop_from_image: Transform
    """(2, 3): crop coordinates from those of the image."""


# An image, a face in it, and the side of its crop in pixels.
Aligner = Callable[[ImageU8, Face, int], Crop]


def align(image: ImageU8, face: Face, size_px: int) -> Crop:
    """Cut the face out on FFHQ's template, as the networks expect it.

    The image is mirrored at its borders.

    Raises:
        InputError: the landmarks coincide.
    """
    crop_from_image = face.crop_of_size(size_px)
    return Crop(geometry.warp(image, crop_from_image, (size_px, size_px)), crop_from_image)
