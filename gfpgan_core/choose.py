"""Which of the faces found are restored, and why the others are left alone."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gfpgan_core import geometry
from gfpgan_core.bounds import MIN_SIDE_PX
from gfpgan_core.config import Box, FaceChoice, RestoreOptions
from gfpgan_core.detect import Detection, Detector, deduplicate
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8

Reason = Literal["doubtful", "too small", "too large", "not chosen"]

# Margin around a user's box, as a share of its size: detectors expect a whole head, and users draw
# boxes on faces.
_BOX_MARGIN = 0.5


@dataclass(frozen=True)
class LeftAlone:
    """A face that was found and is not restored."""

    face: Face
    reason: Reason
    """`doubtful`: it didn't look like a face close up; `too small`, `too large`: beyond the eye
    distances that were asked for; `not chosen`: others were asked for."""


def find(detector: Detector, image: ImageU8, options: RestoreOptions) -> Detection:
    """Find the faces, in the whole photo or in the boxes that are given, and number them.

    Numbers follow the left sides of the boxes; what is doubtful has none.

    Raises:
        InputError: a box lies outside of the photo, or shows no face.
    """
    if not options.boxes:
        found = detector.find(image, options.min_score)
    else:
        faces = [_find_in(box, detector, image, options.min_score) for box in options.boxes]
        found = Detection(deduplicate(faces))
    ordered = sorted(found.faces, key=lambda face: float(face.box_xyxy[0]))
    numbered = [dataclasses.replace(face, number=n) for n, face in enumerate(ordered, 1)]
    return Detection(numbered, found.doubtful)


def _find_in(box: Box, detector: Detector, image: ImageU8, min_score: float) -> Face:
    """Return the best face whose middle lies in the box, detected in the box and a margin."""
    given = np.array(box)
    named = ", ".join(f"{side:g}" for side in box)
    limit = np.array([image.shape[1], image.shape[0]] * 2)
    if not (given >= 0).all() or not (given <= limit).all():
        raise InputError(
            f"the box {named} is not inside of the photo, which is {limit[0]}x{limit[1]} px"
        )
    margin = np.tile((given[2:] - given[:2]) * _BOX_MARGIN, 2) * (-1, -1, 1, 1)
    left, top, right, bottom = np.clip(np.rint(given + margin), 0, limit).astype(int)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    moved = geometry.translation(left, top)
    found = detector.find(part, min_score).faces if min(part.shape[:2]) >= MIN_SIDE_PX else []
    faces = [
        dataclasses.replace(
            face.moved(moved), close_up_score=face.close_up_score, is_placed=face.is_placed
        )
        for face in found
    ]
    inside = [face for face in faces if _is_in(face.landmarks.mean(axis=0), given)]
    if not inside:
        raise InputError(f"the box {named} shows no face: draw it around the whole face")
    return max(inside, key=lambda face: face.score)


def _is_in(point: geometry.Points, box: geometry.Points) -> bool:
    return bool((point >= box[:2]).all() and (point <= box[2:]).all())


def choose(
    found: Detection, options: RestoreOptions, size_wh: tuple[int, int]
) -> tuple[list[Face], list[LeftAlone]]:
    """Return the faces to restore, and those to leave alone. `size_wh` is the photo's.

    Raises:
        InputError: a face is asked for by a number that no face has.
    """
    if isinstance(options.faces, tuple):
        return _numbered(found, options.faces)
    of_size, others = [], []
    for face in found.faces:
        if face.eye_distance_px < options.min_eye_distance_px:
            others.append(LeftAlone(face, "too small"))
        elif face.eye_distance_px > options.max_eye_distance_px:
            others.append(LeftAlone(face, "too large"))
        else:
            of_size.append(face)
    chosen = select(of_size, options.faces, size_wh)
    not_chosen = [face for face in of_size if not any(face is one for one in chosen)]
    return chosen, [
        *(LeftAlone(face, "not chosen") for face in not_chosen),
        *others,
        *(LeftAlone(face, "doubtful") for face in found.doubtful),
    ]


def _numbered(found: Detection, numbers: tuple[int, ...]) -> tuple[list[Face], list[LeftAlone]]:
    if max(numbers) > len(found.faces):
        raise InputError(
            f"face {max(numbers)} is asked for, and the photo has {len(found.faces)}: they are"
            " counted from left to right, from 1"
        )
    chosen = [face for face in found.faces if face.number in numbers]
    return chosen, [
        *(LeftAlone(face, "not chosen") for face in found.faces if face.number not in numbers),
        *(LeftAlone(face, "doubtful") for face in found.doubtful),
    ]


def select(faces: list[Face], which: FaceChoice, size_wh: tuple[int, int]) -> list[Face]:
    """Return all of them, only the one of the largest crop, or the one nearest to the center."""
    if which == "all" or not faces:
        return faces
    if which == "largest":
        return [max(faces, key=lambda face: face.eye_distance_px)]
    center = (np.array(size_wh) - 1) / 2
    return [min(faces, key=lambda f: float(np.linalg.norm(f.landmarks.mean(axis=0) - center)))]


def describe(left_alone: Sequence[LeftAlone]) -> str:
    """Return a phrase such as `3 left alone (2 too small, 1 doubtful)`; empty if there is none."""
    counts = Counter(one.reason for one in left_alone)
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.items())
    return f"{len(left_alone)} left alone ({reasons})" if left_alone else ""
