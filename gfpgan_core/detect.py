"""An image to the faces in it: the order of the looks, and which of the faces are taken.

The networks were trained on faces of about 10 to 300 px: a photo is looked at reduced for its large
faces and at up to 1280 px for its small ones. Each face found is looked at again, upright and close
up, which places its landmarks and tells a face from what only resembles one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import cv2
import numpy as np

from gfpgan_core import geometry
from gfpgan_core.detectors import Face, RawDetector, centerface, retinaface
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import Transform, apply, inverse, scaling
from gfpgan_core.images import ImageU8
from gfpgan_core.weights.download import ensure_present, is_present
from gfpgan_core.weights.releases import DETECTORS

# Both detectors place the landmarks of large faces badly: they were trained on faces of up to
# about 300 px. 640 on the short side finds faces of 1/40 of it.
WORKING_SHORT_SIDE_PX = 640

# A second look at larger photos, for the small faces of a crowd: at 640 CenterFace lost 4 of the 50
# of one group, of 17 to 40 px between the eyes; at 960 two, at 1280 none.
_FINE_SHORT_SIDE_PX = 1280

# Thumbnails are always enlarged.
_THUMBNAIL_SHORT_SIDE_PX = 160
_MOST_ENLARGED = 4

# Faces that fill the frame: of 21 from the brows to the chin, CenterFace finds 14 at 640, none at
# 320, all at 160. In photos smaller than _REDUCED_FROM_PX that look would add more than a tenth to
# the time of a photo with one ordinary face.
_REDUCED_SHORT_SIDE_PX = 160
_REDUCED_FROM_PX = 400
_LARGE_SHARE = 1 / 3  # of the short side

# Where nothing was found yet, also these.
_OTHER_SHORT_SIDES_PX = (320, 160, 80)

# Of two boxes, their intersection over their union. A face behind another's shoulder stays below.
_SAME_FACE_OVERLAP = 0.3
_PART_INSIDE = 0.7  # of its own box
_PART_SIZE = 0.75  # of the whole face's

_CLOSE_UP_SIDE_PX = 224
_CLOSE_UP_EYE_DISTANCE_PX = 40  # of 32, 40, 48, 64 and 80 the most precise for CenterFace
_CLOSE_UP_MIN_SCORE = 0.1  # that there is a face is likely already

# A face scored below _SURE_SCORE must be shown by its two close-ups with _CONFIRMED_SCORE on
# average. Of 163 faces of seven photos the close-ups show each with at least 0.48, profiles and
# half-hidden ones as well; a crumpled paper bag scored 0.54 at first, and 0.15 close up.
_SURE_SCORE = 0.65
_CONFIRMED_SCORE = 0.4


@dataclass(frozen=True)
class Detection:
    """What was found in one photo."""

    faces: list[Face] = field(default_factory=list)
    """Left to right."""
    doubtful: list[Face] = field(default_factory=list)
    """What looked like a face at first, but not close up."""


@dataclass(frozen=True)
class FaceDetector:
    """Finds faces at several bounded sizes, then looks at each again, upright and close up."""

    name: str
    raw: RawDetector
    short_side_px: int = WORKING_SHORT_SIDE_PX

    def __call__(self, image: ImageU8, min_score: float = 0.5) -> list[Face]:
        """Return the faces, left to right. `image` is (H, W, 3) RGB."""
        return self.find(image, min_score).faces

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        """Find the faces, and what was taken for one at first. `image` is (H, W, 3) RGB.

        Further sizes are looked at only where the usual ones show no face that fills the photo, or
        none at all.
        """
        short_side = min(image.shape[:2])
        found = self._confirm(image, self._ordinary_looks(image, min_score), _SURE_SCORE)
        if short_side >= _REDUCED_FROM_PX and not _holds_large(found, short_side):
            found = self._look_again(image, _REDUCED_SHORT_SIDE_PX, min_score, found)
        for side in _other_short_sides(short_side):
            if _confirmed(found.faces):
                break
            found = self._look_again(image, side, min_score, found)
        return found

    def _ordinary_looks(self, image: ImageU8, min_score: float) -> list[Face]:
        """Return what looks like a face at the working size and, in larger photos, a finer one."""
        short_side = min(image.shape[:2])
        if short_side < _THUMBNAIL_SHORT_SIDE_PX:
            enlarged = min(_MOST_ENLARGED * short_side, 2 * _THUMBNAIL_SHORT_SIDE_PX)
            return self._seen_at(enlarged, image, min_score)
        faces = self._seen_at(min(short_side, self.short_side_px), image, min_score)
        if short_side > self.short_side_px:
            seen = self._seen_at(min(short_side, _FINE_SHORT_SIDE_PX), image, min_score)
            faces += _new(seen, faces)
        return faces

    def _look_again(
        self, image: ImageU8, short_side_px: int, min_score: float, before: Detection
    ) -> Detection:
        """Add to what was found before what a look at another size shows.

        Such looks take more for a face: each must be confirmed close up, whatever its score.
        """
        seen = self._seen_at(short_side_px, image, min_score)
        added = self._confirm(image, _new(seen, _confirmed(before.faces)), sure_score=np.inf)
        kept = [face for face in before.faces if not _is_replaced(face, added.faces)]
        faces = deduplicate(kept + added.faces)
        doubtful = before.doubtful + _new(added.doubtful, before.doubtful)
        return Detection(faces, _new(doubtful, faces))

    def _seen_at(self, short_side_px: int, image: ImageU8, min_score: float) -> list[Face]:
        """Detect in the image resized to a short side; faces are in the image's own pixels."""
        size_wh = (image.shape[1], image.shape[0])
        factor = short_side_px / min(size_wh)
        working_wh = (max(1, round(size_wh[0] * factor)), max(1, round(size_wh[1] * factor)))
        working = image if working_wh == size_wh else geometry.resize(image, working_wh)
        image_from_working = scaling(working_wh, size_wh)
        (found,) = self.raw([working], min_score)
        return [face.moved(image_from_working) for face in found]

    def _confirm(self, image: ImageU8, faces: list[Face], sure_score: float) -> Detection:
        """Detect each face again in an upright close-up: better landmarks, and a second opinion.

        Faces scored below `sure_score` are doubtful unless their close-ups confirm them.
        """
        if not faces:
            return Detection()
        size_wh = (_CLOSE_UP_SIDE_PX, _CLOSE_UP_SIDE_PX)
        transforms = [_close_up_transform(face) for face in faces]
        # Black beyond the image: mirrored, the parts of a face that fills it would be many faces.
        upright = [
            geometry.warp(image, transform, size_wh, border=cv2.BORDER_CONSTANT)
            for transform in transforms
        ]
        # Seen in a mirror as well, and averaged: CenterFace places the eyes unevenly, by up to 6 %
        # of their distance; averaging lowered the mean error over five points from 6.9 to 4.9 %.
        mirrored = [np.ascontiguousarray(close_up[:, ::-1]) for close_up in upright]
        found = self.raw([*upright, *mirrored], _CLOSE_UP_MIN_SCORE)
        looks = zip(found[: len(faces)], found[len(faces) :], strict=True)
        closer = [
            _seen_closer(face, transform, *both)
            for face, transform, both in zip(faces, transforms, looks, strict=True)
        ]
        is_sure = [f.score >= sure_score or f.close_up_score >= _CONFIRMED_SCORE for f in closer]
        doubtful = [face for face, sure in zip(closer, is_sure, strict=True) if not sure]
        faces = [face for face, sure in zip(closer, is_sure, strict=True) if sure]
        return Detection(deduplicate(faces), doubtful)


def _other_short_sides(short_side: int) -> list[int]:
    """Return what to try where the usual sizes show no face: reduced, and enlarged at last."""
    reduced = [side for side in _OTHER_SHORT_SIDES_PX if side < short_side]
    if short_side >= _REDUCED_FROM_PX:
        reduced.remove(_REDUCED_SHORT_SIDE_PX)  # done already
    enlarged = min(2 * short_side, _FINE_SHORT_SIDE_PX)
    is_larger = _THUMBNAIL_SHORT_SIDE_PX <= short_side < enlarged
    return [*reduced, enlarged] if is_larger else reduced


def _holds_large(found: Detection, short_side: int) -> bool:
    heights = [face.box_xyxy[3] - face.box_xyxy[1] for face in _confirmed(found.faces)]
    return max(heights, default=0) >= _LARGE_SHARE * short_side


def _confirmed(faces: list[Face]) -> list[Face]:
    """Return the faces that their close-ups show in the same place.

    Large faces are misplaced by up to half of their size, though their close-ups show a face.
    """
    return [face for face in faces if face.is_placed and face.close_up_score >= _CONFIRMED_SCORE]


def _is_replaced(face: Face, added: list[Face]) -> bool:
    """Return whether later faces hold the whole of what was taken for a face, or a better one."""
    return any(
        is_duplicate(face, other)
        and (other.is_placed or not face.is_placed)
        and (other.close_up_score >= face.close_up_score or not face.is_placed)
        for other in added
    )


def _seen_closer(
    face: Face, close_up_from_image: Transform, upright: list[Face], mirrored: list[Face]
) -> Face:
    """Return the face with the mean landmarks and score of what its two close-ups show of it."""
    seen = face.moved(close_up_from_image)
    turned = [_mirrored(other, _CLOSE_UP_SIDE_PX) for other in mirrored]
    # A poorly placed face is still one: the score counts what is shown there or thereabouts.
    scores = [_best_score_near(look, seen) for look in (upright, turned)]
    checked = dataclasses.replace(face, close_up_score=sum(scores) / len(scores))
    looks = [_nearest_match(upright, seen), _nearest_match(turned, seen)]
    matches = [look.landmarks for look in looks if look is not None]
    if not matches:
        return checked
    middle = apply(inverse(close_up_from_image), np.mean(matches, axis=0))
    return dataclasses.replace(checked, landmarks=middle, is_placed=True)


def _nearest_match(found: list[Face], face: Face) -> Face | None:
    """Return the nearest of those that plausibly are the same face, if any."""
    matches = [other for other in found if is_plausible_match(other, face)]
    return min(matches, key=lambda other: _landmark_distance(other, face), default=None)


def _best_score_near(found: list[Face], face: Face) -> float:
    near = [other for other in found if _landmark_distance(other, face) < face.eye_distance_px]
    return max((other.score for other in near), default=0.0)


def _mirrored(face: Face, width: int) -> Face:
    """Move a face found in a mirrored image to the image itself: left and right points swap."""
    moved = face.moved(np.array([[-1.0, 0, width - 1], [0, 1, 0]]))
    return dataclasses.replace(moved, landmarks=moved.landmarks[[1, 0, 2, 4, 3]])


def _close_up_transform(face: Face) -> Transform:
    """Return close_up_from_image: the face upright as in its crop, its landmarks in the middle."""
    shrink = _CLOSE_UP_EYE_DISTANCE_PX / geometry.eye_distance(geometry.TEMPLATE_LANDMARKS)
    rotation = shrink * face.crop_from_image[:, :2]
    middle = np.full(2, (_CLOSE_UP_SIDE_PX - 1) / 2)
    return np.column_stack([rotation, middle - rotation @ face.landmarks.mean(axis=0)])


def _new(found: list[Face], known: list[Face]) -> list[Face]:
    return [face for face in found if not any(is_duplicate(face, other) for other in known)]


def is_duplicate(face: Face, known: Face) -> bool:
    """Return whether a face found is a known one again, or a part of it taken for a face."""
    a, b = face.box_xyxy, known.box_xyxy
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    own, its = np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2])
    if shared > _SAME_FACE_OVERLAP * (own + its - shared):
        return True
    inside = shared > _PART_INSIDE * own
    return bool(inside) and face.eye_distance_px < _PART_SIZE * known.eye_distance_px


def _landmark_distance(a: Face, b: Face) -> float:
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean())


def is_plausible_match(found: Face, face: Face) -> bool:
    """Return whether a close-up shows the same face: within a third of its size, as large."""
    size = face.eye_distance_px
    change = found.eye_distance_px / size
    return _landmark_distance(found, face) < size / 3 and 0.7 < change < 1.4


def deduplicate(faces: list[Face]) -> list[Face]:
    """Keep, of faces that lie on each other, the one of the highest score; left to right."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_landmark_distance(face, k) > k.eye_distance_px / 4 for k in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: float(face.box_xyxy[0]))


def load_detector(
    name: str = "auto", device: str = "cpu", short_side_px: int = WORKING_SHORT_SIDE_PX
) -> FaceDetector:
    """Load a detector; `auto`: RetinaFace ResNet-50 if its weights are there, else CenterFace.

    Raises:
        InputError: unknown name.
        WeightsError: RetinaFace was asked for and its weights can't be had.
    """
    if name == "auto":
        best = "retinaface-resnet50"
        name = best if is_present(DETECTORS[best]) else "centerface"
    if name == "centerface":
        return FaceDetector(name, centerface(), short_side_px)
    if name not in DETECTORS:
        raise InputError(f"detector is {name!r}; allowed: auto, centerface, {', '.join(DETECTORS)}")
    raw = retinaface(ensure_present(DETECTORS[name]), name, device, DETECTORS[name].sha256)
    return FaceDetector(name, raw, short_side_px)
