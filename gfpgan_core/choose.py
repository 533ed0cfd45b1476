"""The faces found to those that are restored, and why the others are left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gfpgan_core.config import FaceChoice, RestoreOptions
from gfpgan_core.detect import Detection
from gfpgan_core.detectors import Face

Reason = Literal["doubtful", "too small", "not chosen"]


@dataclass(frozen=True)
class LeftAlone:
    """A face that was found and is not restored."""

    face: Face
    reason: Reason
    """`doubtful`: it didn't look like a face close up; `too small`: below the smallest eye
    distance; `not chosen`: only one face was asked for."""


def choose(
    found: Detection, options: RestoreOptions, size_wh: tuple[int, int]
) -> tuple[list[Face], list[LeftAlone]]:
    """Return the faces to restore, and those to leave alone. `size_wh` is the photo's."""
    smallest = options.min_eye_distance_px
    large = [face for face in found.faces if face.eye_distance_px >= smallest]
    chosen = select(large, options.faces, size_wh)
    small = [face for face in found.faces if face.eye_distance_px < smallest]
    others = [face for face in large if not any(face is one for one in chosen)]
    return chosen, [
        *(LeftAlone(face, "not chosen") for face in others),
        *(LeftAlone(face, "too small") for face in small),
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
    """Return such as `3 left alone (2 too small, 1 doubtful)`; empty if there is none."""
    counts = Counter(one.reason for one in left_alone)
    reasons = ", ".join(f"{number} {reason}" for reason, number in counts.items())
    return f"{len(left_alone)} left alone ({reasons})" if left_alone else ""
