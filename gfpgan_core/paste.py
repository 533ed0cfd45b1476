"""Paste restored crops into the image, each into its own region only.

What is added to the image is the *difference* that the network made, not the crop: a face that
was not changed comes back exactly, and detail finer than the crop stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core import geometry
from gfpgan_core.align import Crop
from gfpgan_core.geometry import Transform
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import Mask

BAND_PX = 2_000_000  # 24 MB a float image


@dataclass(frozen=True)
class RestoredFace:
    """A crop, its restoration, and the mask that limits what is pasted."""

    crop: Crop
    restored: ImageU8
    """(size, size, 3) RGB."""
    mask: Mask
    """(size, size), 0 at the border."""
    upscaled: ImageU8 | None = None
    """(k * size, k * size, 3) RGB, k a whole number: `restored`, enlarged by a network. It is
    pasted in place of what interpolation makes of `restored`."""

    @property
    def upscale(self) -> int:
        """Return k: by how much `change` is larger than the crop."""
        return 1 if self.upscaled is None else self.upscaled.shape[0] // self.restored.shape[0]

    def change(self) -> NDArray[np.float32]:
        """Return what is added to the photo, (k * size, k * size, 3), in gray levels."""
        if self.upscaled is None:
            return self.restored.astype(np.float32) - self.crop.pixels
        plain = geometry.resize(self.crop.pixels, self.upscaled.shape[1::-1])
        return self.upscaled.astype(np.float32) - np.asarray(plain, np.uint8)


class Paster(Protocol):
    """`paste`, or another way to lay restored crops into the photo."""

    def __call__(
        self,
        canvas: ImageU8,
        source: ImageU8,
        faces: list[RestoredFace],
        *,
        blend: float,
        enlarged: bool,
    ) -> None: ...


def paste(
    canvas: ImageU8, source: ImageU8, faces: list[RestoredFace], *, blend: float, enlarged: bool
) -> None:
    """Add the restored faces to `canvas`, in place.

    Args:
        canvas: (H, W, 3), the source at the result's size.
        source: (h, w, 3), the image that the crops were taken from.
        blend: 0..1, the share of the restored face.
        enlarged: `canvas` was made by a network, so that under a face the plain enlarged source
            has to replace it; otherwise `canvas` is that already.
    """
    canvas_from_image = geometry.scaling(source.shape[1::-1], canvas.shape[1::-1])
    regions = [Region.of(face, canvas_from_image, canvas.shape) for face in faces]
    # Before any face is pasted: where faces overlap, the second must not build on the first.
    bases = [
        region.warp_photo(source, canvas_from_image) if enlarged else region.view(canvas).copy()
        for region in regions
    ]
    for face, region, base in zip(faces, regions, bases, strict=True):
        change = face.change()
        mask = face.mask * np.float32(blend)
        for rows, band in region.bands():
            share = band.warp_from_crop(mask, cv2.INTER_LINEAR)[..., None]
            _blend_change(
                band.view(canvas),
                base[rows],
                band.warp_from_crop(change, upscale=face.upscale),
                share,
            )


def _blend_change(
    view: ImageU8, base: ImageU8, wanted: NDArray[np.float32], share: NDArray[np.float32]
) -> None:
    """Blend `base` plus the change into `view`, in place; the change is overwritten."""
    wanted += base
    np.clip(wanted, 0, 255, out=wanted)
    blend_into(view, wanted, share)


def blend_into(view: ImageU8, wanted: NDArray[np.float32], share: NDArray[np.float32]) -> None:
    """Blend `wanted` (H, W, 3), 0..255, into `view`, in place; `wanted` is overwritten.

    Args:
        view: (H, W, 3).
        wanted: what it becomes where `share` is 1.
        share: (H, W, 1), 0..1.
    """
    wanted -= view
    wanted *= share
    wanted += view
    view[:] = np.rint(wanted, out=wanted).astype(np.uint8)


@dataclass(frozen=True)
class Region:
    """The rectangle of the canvas under a crop."""

    left_top: tuple[int, int]
    """Its first pixel's place in the canvas, (x, y)."""
    size_wh: tuple[int, int]
    region_from_crop: Transform

    @staticmethod
    def of(
        face: RestoredFace, canvas_from_image: Transform, canvas_shape: tuple[int, ...]
    ) -> Region:
        """Return the face's region, cut off at the canvas's borders."""
        canvas_from_crop = geometry.chain(
            canvas_from_image, geometry.inverse(face.crop.crop_from_image)
        )
        side = face.restored.shape[0]
        corners = np.array([[0.0, 0.0], [side, 0], [0, side], [side, side]]) - 0.5
        corners = geometry.apply(canvas_from_crop, corners)
        limit = np.array(canvas_shape[1::-1])
        low = np.clip(np.floor(corners.min(axis=0)), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(corners.max(axis=0)) + 1, low + 1, limit).astype(int)
        x, y = int(low[0]), int(low[1])
        region_from_crop = geometry.chain(geometry.translation(-x, -y), canvas_from_crop)
        return Region((x, y), (int(high[0]) - x, int(high[1]) - y), region_from_crop)

    def bands(self) -> Iterator[tuple[slice, Region]]:
        """Yield the region in bands of rows, so that a huge face doesn't need huge float images."""
        (left, first_row), (width, height) = self.left_top, self.size_wh
        step = max(1, BAND_PX // width)
        for top in range(0, height, step):
            rows = slice(top, min(top + step, height))
            band_from_crop = geometry.chain(geometry.translation(0, -top), self.region_from_crop)
            yield rows, Region((left, first_row + top), (width, rows.stop - top), band_from_crop)

    def view(self, canvas: ImageU8) -> ImageU8:
        """Return the region's pixels of the canvas: a view."""
        (left, top), (width, height) = self.left_top, self.size_wh
        return canvas[top : top + height, left : left + width]

    def warp_photo(self, source: ImageU8, canvas_from_image: Transform) -> ImageU8:
        """Warp the photo to this region's pixels."""
        left, top = self.left_top
        region_from_image = geometry.chain(geometry.translation(-left, -top), canvas_from_image)
        warped = geometry.warp(source, region_from_image, self.size_wh, border=cv2.BORDER_REPLICATE)
        return np.asarray(warped, np.uint8)

    def warp_from_crop(
        self,
        plane: NDArray[np.float32],
        interpolation: int = cv2.INTER_CUBIC,
        *,
        upscale: int = 1,
    ) -> NDArray[np.float32]:
        """Warp a plane of the crop to this region's pixels; 0 (no change) outside the crop.

        Args:
            plane: (k * size, k * size) or (k * size, k * size, 3), of a crop of `size` pixels.
            interpolation: OpenCV's.
            upscale: k.
        """
        plane_from_crop = geometry.scaling((1, 1), (upscale, upscale))
        warped = geometry.warp(
            plane,
            geometry.chain(self.region_from_crop, geometry.inverse(plane_from_crop)),
            self.size_wh,
            border=cv2.BORDER_CONSTANT,
            interpolation=interpolation,
        )
        return np.asarray(warped, np.float32)
