"""Boxes of the facial components: make, flip, save and load them, and crop them out of images.

A box is (center x, center y, half side) in pixels of a square face, pixel centers being whole
numbers. Boxes of a face are a (3, 3) array, one row a component, in the order of `NAMES`. Left and
right are those of the picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfpgan_core.bounds import MAX_BOXES_BYTES, MAX_BOXES_INSTRUCTIONS
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.files import whole_file
from gfpgan_core.geometry import TEMPLATE_LANDMARKS, TEMPLATE_SIZE_PX, Points, eye_distance
from gfpgan_core.weights.saved import read_saved
from gfpgan_core.weights.stored import Limits

NAMES = ("left_eye", "right_eye", "mouth")
FILE_NAME = "components.json"

Boxes = NDArray[np.float64]

# Lids and brows' lower edge, and the lips with a margin: the sizes that upstream's boxes have for
# FFHQ faces (mean half side, enlargement included: 35 px of an eye, 58 px of a mouth, at 512 px).
_EYE_HALF_SIDE = 0.28  # of the distance between the eyes
_MOUTH_HALF_SIDE = 0.52  # of the distance between the mouth's corners

# Sides of the crops that the discriminators see, at 512 px. Source: gfpgan 1.3.8's model.
CROP_SIDES_PX = {"left_eye": 80, "right_eye": 80, "mouth": 120}
# Upstream's file holds numpy's numbers, which torch's own safe reader refuses.
_UPSTREAM_LIMITS = Limits(MAX_BOXES_BYTES, MAX_BOXES_BYTES, MAX_BOXES_INSTRUCTIONS)
_MIN_CROP_SIDE_PX = 8  # the discriminators reduce it to a quarter


def boxes_from_landmarks(landmarks: Points) -> Boxes:
    """Return the boxes in an aligned face with these (5, 2) landmarks."""
    left_eye, right_eye, _, left_corner, right_corner = landmarks
    eye = _EYE_HALF_SIDE * eye_distance(landmarks)
    mouth = _MOUTH_HALF_SIDE * float(np.linalg.norm(right_corner - left_corner))
    middle = (left_corner + right_corner) / 2
    return np.array([[*left_eye, eye], [*right_eye, eye], [*middle, mouth]])


def template_boxes() -> Boxes:
    """Return the boxes of a face that lies exactly on the template, at 512 px."""
    return boxes_from_landmarks(TEMPLATE_LANDMARKS)


def scale_boxes(boxes: Boxes, from_px: float, to_px: float) -> Boxes:
    """Return the boxes after a square face was resized, half-pixel exact."""
    factor = to_px / from_px
    scaled = boxes * factor
    scaled[:, :2] += (factor - 1) / 2
    return scaled


def flip_boxes(boxes: Boxes, width_px: int) -> Boxes:
    """Return the mirrored face's boxes, left and right eye swapped. The input isn't modified."""
    flipped = boxes[[1, 0, 2]]
    flipped[:, 0] = width_px - 1 - flipped[:, 0]
    return flipped


def crop_side_px(name: str, face_size_px: int) -> int:
    """Return the side that a component is resampled to, in proportion to the face."""
    return max(_MIN_CROP_SIDE_PX, round(CROP_SIDES_PX[name] * face_size_px / TEMPLATE_SIZE_PX))


def crop_components(image: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """Crop each component, (N, 3, side, side), by boxes (N, 3, 3) out of images (N, 3, size, size).

    RoIAlign (arXiv 1703.06870): differentiable to the image, bilinear at the exact place.
    """
    from torchvision.ops import roi_align  # a second: torchvision imports a compiler

    crops = {}
    index = torch.arange(len(image), device=boxes.device, dtype=boxes.dtype)[:, None]
    for row, name in enumerate(NAMES):
        center, half = boxes[:, row, :2] + 0.5, boxes[:, row, 2:]  # +0.5: from centers to edges
        regions = torch.cat([index, center - half, center + half], dim=1).to(image.dtype)
        side = crop_side_px(name, image.shape[-1])
        crops[name] = roi_align(image, regions, side, sampling_ratio=2, aligned=True)
    return crops


def save_boxes(path: Path, boxes: Mapping[str, Boxes]) -> None:
    """Write file name -> component -> (center x, center y, half side), at 512 px, as JSON."""
    table = {
        name: dict(zip(NAMES, np.round(rows, 2).tolist(), strict=True))
        for name, rows in boxes.items()
    }
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(table, indent=1), encoding="utf-8")


def load_boxes(path: Path) -> dict[str, Boxes]:
    """Return file name (or FFHQ number) -> boxes at 512 px.

    It reads our own `components.json`, FFHQ's `ffhq-dataset-v2.json` (68 landmarks of the 1024 px
    faces) and upstream's `.pth` of eye and mouth boxes.

    Raises:
        InputError: unreadable, or of another form.
    """
    try:
        if path.suffix == ".pth":
            table = read_saved(path, _UPSTREAM_LIMITS)
            return {key: _from_upstream(value) for key, value in table.items()}
        table = json.loads(path.read_text(encoding="utf-8"))
        if any("image" in value for value in table.values()):
            return {f"{int(key):05d}": _from_ffhq(value) for key, value in table.items()}
        return {
            key: np.array([value[name] for name in NAMES], np.float64).reshape(3, 3)
            for key, value in table.items()
        }
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        WeightsError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path} can't be read as component boxes ({type(error).__name__}: {error}): give the"
            f" {FILE_NAME} that scripts.prepare_faces writes, FFHQ's json or upstream's .pth"
        ) from error


def boxes_of(name: str, table: Mapping[str, Boxes]) -> Boxes | None:
    """Return a file's boxes, found by its name or, as in FFHQ, by the number in its name."""
    stem = Path(name).stem
    for key in (name, Path(name).name, stem, stem.zfill(8)):
        if key in table:
            return table[key]
    return None


def _from_upstream(value: Mapping[str, list[float] | Tensor]) -> Boxes:
    rows = [np.asarray(value[name], np.float64).reshape(3) for name in NAMES]
    boxes = np.array(rows)
    boxes[:2, 2] *= 1.4  # upstream enlarges the eyes when it reads them
    return boxes


def _from_ffhq(value: Mapping[str, Mapping[str, list[list[float]]]]) -> Boxes:
    points = np.asarray(value["image"]["face_landmarks"], np.float64)
    if points.shape != (68, 2):
        raise ValueError(f"face_landmarks has shape {points.shape}; 68 points are expected")
    eyes = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
    five = np.array([*eyes, points[30], points[48], points[54]])
    return scale_boxes(boxes_from_landmarks(five), 1024, TEMPLATE_SIZE_PX)
