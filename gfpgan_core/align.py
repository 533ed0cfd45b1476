"""A face in an image to an aligned square crop."""

from __future__ import annotations

from dataclasses import dataclass

from gfpgan_core import geometry
from gfpgan_core.detect import Face
from gfpgan_core.geometry import Transform
from gfpgan_core.images import ImageU8


@dataclass(frozen=True)
class Crop:
    """An aligned face."""

    pixels: ImageU8
    """(size, size, 3) RGB."""
    crop_from_image: Transform
    """(2, 3): crop coordinates from those of the image."""


def align(image: ImageU8, face: Face, size_px: int) -> Crop:
    """The face as the networks expect it: on FFHQ's template, the image mirrored at its borders.

    Raises:
        InputError: the landmarks coincide.
    """
    crop_from_image = geometry.fit_to_template(face.landmarks, size_px)
    return Crop(geometry.warp(image, crop_from_image, (size_px, size_px)), crop_from_image)
