"""Cut and paste crops as upstream does, so that the pictures are the same.

Ours are better (`gfpgan_core.align`, `gfpgan_core.paste`): cubic, averaged where they shrink,
mirrored at the photo's border, and pasted as a change, so that detail finer than the crop stays.
Source: facexlib 0.3.0's `FaceRestoreHelper`, which gfpgan 1.3.8 uses. Not taken over: in pasting,
upstream shifts the face by half a pixel of the result where it enlarges.
"""

from __future__ import annotations

import cv2
import numpy as np

from gfpgan_core import geometry
from gfpgan_core.align import Crop
from gfpgan_core.detectors import Face
from gfpgan_core.images import ImageU8
from gfpgan_core.paste import Region, RestoredFace, blend_into

# RGB of what lies beyond the photo's border.
_BEYOND = (132, 133, 135)


def cut(image: ImageU8, face: Face, size_px: int) -> Crop:
    """Cut a face out on FFHQ's template, interpolated linearly.

    Raises:
        InputError: the landmarks coincide.
    """
    crop_from_image = face.crop_of_size(size_px)
    pixels = cv2.warpAffine(
        image,
        crop_from_image,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=_BEYOND,
    )
    return Crop(np.asarray(pixels, np.uint8), crop_from_image)


def lay(
    canvas: ImageU8, source: ImageU8, faces: list[RestoredFace], *, blend: float, enlarged: bool
) -> None:
    """Paste the restored crops themselves over `canvas`, in place, one after the other.

    A `gfpgan_core.paste.Paster`, with the arguments of `paste`. `enlarged` has no effect: nothing
    of the canvas is used under a face.
    """
    canvas_from_image = geometry.scaling(source.shape[1::-1], canvas.shape[1::-1])
    for face in faces:
        region = Region.of(face, canvas_from_image, canvas.shape)
        for _, band in region.bands():
            _lay_band(band, canvas, face, blend)


def _lay_band(band: Region, canvas: ImageU8, face: RestoredFace, blend: float) -> None:
    view = band.view(canvas)
    laid = cv2.warpAffine(face.restored, band.region_from_crop, band.size_wh)
    mask = cv2.warpAffine(face.mask, band.region_from_crop, band.size_wh)
    blend_into(view, laid.astype(np.float32), (mask * np.float32(blend))[..., None])
