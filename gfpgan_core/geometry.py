"""The aligned face, similarity transforms, and resampling through them.

Coordinates are pixel centers: the first pixel's center is (0, 0), its left edge -0.5. A transform
named `b_from_a` is a (2, 3) float64 matrix that takes coordinates in a to coordinates in b.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core.errors import InputError

Transform = NDArray[np.float64]
Points = NDArray[np.float64]

TEMPLATE_SIZE_PX = 512

# Left eye, right eye, nose tip, mouth corners of an aligned FFHQ face at 512 px, as in facexlib,
# with which the releases were trained.
TEMPLATE_LANDMARKS: Points = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)


def eye_distance(landmarks: Points) -> float:
    """Return the pixels between the first two of (5, 2) landmarks."""
    return float(np.linalg.norm(landmarks[1] - landmarks[0]))


def scaling(size_from_wh: tuple[int, int], size_to_wh: tuple[int, int]) -> Transform:
    """Return the transform of resizing an image, half-pixel exact: edges meet edges."""
    sx, sy = size_to_wh[0] / size_from_wh[0], size_to_wh[1] / size_from_wh[1]
    return np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]])


def translation(dx: float, dy: float) -> Transform:
    """Return the transform that moves by (dx, dy) pixels."""
    return np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)


def chain(*transforms: Transform) -> Transform:
    """Return one transform for several: `chain(c_from_b, b_from_a)` is c_from_a."""
    result = np.eye(3)
    for transform in transforms:
        result = result @ np.vstack([transform, [0, 0, 1]])
    return result[:2]


def inverse(transform: Transform) -> Transform:
    """Return the transform the other way round: a_from_b for b_from_a."""
    return np.linalg.inv(np.vstack([transform, [0, 0, 1]]))[:2]


def apply(transform: Transform, points: Points) -> Points:
    """Return (N, 2) points transformed."""
    return points @ transform[:, :2].T + transform[:, 2]


def scale_of(transform: Transform) -> float:
    """Return the factor by which the transform enlarges lengths (the root of the area's)."""
    return float(np.sqrt(abs(np.linalg.det(transform[:, :2]))))


def fit_to_template(landmarks: Points, size_px: int) -> Transform:
    """Fit crop_from_image: the similarity that takes (5, 2) landmarks nearest to the template's.

    Least median of squares, as in facexlib: one bad landmark doesn't tilt the face.

    Raises:
        InputError: landmarks that lie on one spot.
    """
    found, _ = cv2.estimateAffinePartial2D(landmarks, TEMPLATE_LANDMARKS, method=cv2.LMEDS)
    fitted = np.asarray(np.zeros((2, 3)) if found is None else found, np.float64)
    if not np.isfinite(fitted).all() or scale_of(fitted) == 0:
        raise InputError("the landmarks don't describe a face: they coincide")
    to_size = scaling((TEMPLATE_SIZE_PX, TEMPLATE_SIZE_PX), (size_px, size_px))
    return chain(to_size, fitted)


def warp(
    image: NDArray[Any],
    to_from_image: Transform,
    size_wh: tuple[int, int],
    *,
    border: int = cv2.BORDER_REFLECT_101,
    interpolation: int = cv2.INTER_CUBIC,
) -> NDArray[Any]:
    """Warp the image by a transform to `size_wh`, in the image's own type.

    Only the part of the image that falls into the result is read. Where the transform shrinks to
    less than half, that part is first reduced by area averaging: interpolation alone would alias.
    """
    width, height = size_wh
    corners = np.array([[-0.5, -0.5], [width, -0.5], [-0.5, height], [width, height]])
    seen = apply(inverse(to_from_image), corners)
    margin = 8 + 4 / max(scale_of(to_from_image), 1e-6)  # taps of the interpolation, and averaging
    limit = np.array(image.shape[1::-1])
    low = np.clip(np.floor(seen.min(axis=0) - margin), 0, limit - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0) + margin), low + 1, limit).astype(int)
    part = image[low[1] : high[1], low[0] : high[0]]
    to_from_part = chain(to_from_image, translation(*low))

    factor = int(1 / scale_of(to_from_part))
    if factor >= 2:
        part_wh = (part.shape[1], part.shape[0])
        reduced_wh = (max(1, part_wh[0] // factor), max(1, part_wh[1] // factor))
        part = cv2.resize(part, reduced_wh, interpolation=cv2.INTER_AREA)
        to_from_part = chain(to_from_part, inverse(scaling(part_wh, reduced_wh)))
    return cv2.warpAffine(part, to_from_part, size_wh, flags=interpolation, borderMode=border)


def resize(image: NDArray[Any], size_wh: tuple[int, int]) -> NDArray[Any]:
    """Resize the image: enlarged by Lanczos interpolation, reduced by area averaging."""
    if (image.shape[1], image.shape[0]) == size_wh:
        return image.copy()
    shrinks = size_wh[0] < image.shape[1]
    return cv2.resize(
        image, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4
    )
