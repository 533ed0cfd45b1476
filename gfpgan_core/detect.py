"""An image to the faces in it: at which sizes they are detected, and which of them are kept.

The networks were trained on faces of about 10 to 300 px: the detector runs on the reduced photo for
large faces, and at up to 1280 px for small ones. Each face found is detected again in close-ups,
upright and enlarged, which place its landmarks and reject what only resembles a face.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from gfpgan_core import geometry
from gfpgan_core.close_up import CONFIRMED_SCORE, take_close_ups
from gfpgan_core.detectors import Face, RawDetector, centerface, retinaface
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import Transform, chain, inverse, scaling
from gfpgan_core.images import ImageU8
from gfpgan_core.weights.download import ensure_present, is_present
from gfpgan_core.weights.releases import DETECTORS

# Both detectors place the landmarks of large faces badly: they were trained on faces of up to
# about 300 px. 640 on the short side finds faces of 1/40 of it.
WORKING_SHORT_SIDE_PX = 640

# A second view of larger photos, for the small faces of a crowd: at 640 CenterFace lost 4 of the 50
# of one group, of 17 to 40 px between the eyes; at 960 two, at 1280 none.
_FINE_SHORT_SIDE_PX = 1280

# Thumbnails are always enlarged.
_THUMBNAIL_SHORT_SIDE_PX = 160
_MOST_ENLARGED = 4

# Faces that fill the frame: of 21 from the brows to the chin, CenterFace finds 14 at 640, none at
# 320, all at 160, and as many at 128, which adds 5 % to the time of a portrait of 512 px in place
# of 8. In photos smaller than _REDUCED_FROM_PX even that would be more than a tenth.
_REDUCED_SHORT_SIDE_PX = 128
_REDUCED_FROM_PX = 400
_LARGE_SHARE = 1 / 3  # of the short side

# Tried where nothing has been found yet.
_OTHER_SHORT_SIDES_PX = (320, 160, 80)

# Of two boxes, their intersection over their union. A face behind another's shoulder stays below.
_SAME_FACE_OVERLAP = 0.3
_PART_INSIDE = 0.7  # of its own box
_PART_SIZE = 0.75  # of the whole face's

# Faces scored below it need close-ups that confirm them.
_SURE_SCORE = 0.65
# RetinaFace is surer of itself: it scores a hand 0.79 and a shoe 0.91, both with 0 close up, and a
# crumpled paper bag with 0.48; of 166 faces of eight photos, profiles and half-hidden ones as well,
# it shows each with at least 0.66 (with weights that others trained).
_RETINAFACE_SURE_SCORE = np.inf
_RETINAFACE_CONFIRMED_SCORE = 0.55

# Detection takes 0.3 GiB a megapixel. Photos of up to 3.6 times their height stay below: of longer
# ones, faces below 1/60 of the height are lost.
_MOST_PIXELS = 6e6
# Views of nearly one size show the same faces.
_LARGER = 1.25

# For views turned by quarters, tried where no face was found upright: it finds faces from 1/30 of
# the short side on.
_TURNED_SHORT_SIDE_PX = 320


@dataclass(frozen=True)
class Detection:
    """What was found in one photo."""

    faces: list[Face] = field(default_factory=list)
    """Left to right."""
    doubtful: list[Face] = field(default_factory=list)
    """What looked like a face at first, but not close up."""


@dataclass(frozen=True)
class View:
    """The whole photo, resized and turned, as the detector gets it."""

    short_side_px: int
    quarter_turns: int = 0
    """Counterclockwise."""


class Detector(Protocol):
    """What finds faces: `FaceDetector`, or a detector of the caller's."""

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        """Find the faces in (H, W, 3) RGB."""


@dataclass(frozen=True)
class FaceDetector:
    """Finds faces at several bounded sizes, then confirms each in close-ups."""

    name: str
    raw: RawDetector
    short_side_px: int = WORKING_SHORT_SIDE_PX
    sure_score: float = _SURE_SCORE
    """Faces of this first score and above need no close-up to confirm them."""
    confirmed_score: float = CONFIRMED_SCORE
    """Close-ups of this score and above confirm a face."""

    def __call__(self, image: ImageU8, min_score: float = 0.5) -> list[Face]:
        """Return the faces, left to right. `image` is (H, W, 3) RGB."""
        return self.find(image, min_score).faces

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        """Find the faces, and what resembled one at first. `image` is (H, W, 3) RGB.

        Other sizes than the usual ones are tried only where those show no face that fills the
        photo, or none at all.
        """
        size_wh = (image.shape[1], image.shape[0])
        short_side = min(size_wh)
        found = self._confirm(image, self._detect_in_usual_views(image, min_score), self.sure_score)
        if short_side >= _REDUCED_FROM_PX and not _holds_large(found, short_side):
            found = self._add_view(image, View(_REDUCED_SHORT_SIDE_PX), min_score, found)
        for view in _further_views(size_wh):
            if _confirmed(found.faces):
                break
            found = self._add_view(image, view, min_score, found)
            if view.quarter_turns and _confirmed(found.faces):  # the whole photo is turned
                for side in self._usual_short_sides(size_wh):
                    turned = View(side, view.quarter_turns)
                    found = self._add_view(image, turned, min_score, found)
        return found

    def _detect_in_usual_views(self, image: ImageU8, min_score: float) -> list[Face]:
        """Return the faces detected at the usual sizes, each once."""
        faces: list[Face] = []
        for side in self._usual_short_sides((image.shape[1], image.shape[0])):
            faces += _new(self._detect_in(View(side), image, min_score), faces)
        return faces

    def _usual_short_sides(self, size_wh: tuple[int, int]) -> list[int]:
        """Return the working size and, for larger photos, a finer one; thumbnails are enlarged."""
        short_side, largest = min(size_wh), _largest_short_side(size_wh)
        if short_side < _THUMBNAIL_SHORT_SIDE_PX:
            return [min(_MOST_ENLARGED * short_side, 2 * _THUMBNAIL_SHORT_SIDE_PX, largest)]
        working = min(short_side, self.short_side_px, largest)
        fine = min(short_side, _FINE_SHORT_SIDE_PX, largest)
        return [working, fine] if fine >= _LARGER * working else [working]

    def _add_view(
        self, image: ImageU8, view: View, min_score: float, before: Detection
    ) -> Detection:
        """Add the faces of another view to those found before.

        Such views give more false detections: close-ups must confirm each, whatever its score.
        """
        seen = self._detect_in(view, image, min_score)
        added = self._confirm(image, _new(seen, _confirmed(before.faces)), sure_score=np.inf)
        kept = [face for face in before.faces if not _is_replaced(face, added.faces)]
        faces = deduplicate(kept + added.faces)
        doubtful = before.doubtful + _new(added.doubtful, before.doubtful)
        return Detection(faces, _new(doubtful, faces))

    def _detect_in(self, view: View, image: ImageU8, min_score: float) -> list[Face]:
        """Detect in the image resized and turned; faces are in the image's own pixels."""
        size_wh = (image.shape[1], image.shape[0])
        factor = view.short_side_px / min(size_wh)
        working_wh = (max(1, round(size_wh[0] * factor)), max(1, round(size_wh[1] * factor)))
        working = image if working_wh == size_wh else geometry.resize(image, working_wh)
        turned = np.ascontiguousarray(np.rot90(working, view.quarter_turns))
        image_from_turned = chain(
            scaling(working_wh, size_wh), inverse(_quarter_turns(view.quarter_turns, working_wh))
        )
        (found,) = self.raw([turned], min_score)
        return [face.moved(image_from_turned) for face in found]

    def _confirm(self, image: ImageU8, faces: list[Face], sure_score: float) -> Detection:
        """Take close-ups: faces scored below `sure_score` that they don't confirm are doubtful."""
        sure: list[Face] = []
        doubtful: list[Face] = []
        for face in take_close_ups(self.raw, image, faces):
            is_sure = face.score >= sure_score or face.close_up_score >= self.confirmed_score
            (sure if is_sure else doubtful).append(face)
        return Detection(deduplicate(sure), doubtful)


def _largest_short_side(size_wh: tuple[int, int]) -> int:
    """Return the short side at which a view has `_MOST_PIXELS`."""
    return max(1, math.isqrt(int(_MOST_PIXELS * min(size_wh) / max(size_wh))))


def _further_views(size_wh: tuple[int, int]) -> list[View]:
    """Return what to try where the usual sizes show no face: reduced, enlarged, turned."""
    short_side, largest = min(size_wh), _largest_short_side(size_wh)
    reduced = [View(side) for side in _OTHER_SHORT_SIDES_PX if _LARGER * side <= short_side]
    enlarged = min(2 * short_side, _FINE_SHORT_SIDE_PX, largest)
    if short_side >= _THUMBNAIL_SHORT_SIDE_PX and enlarged >= _LARGER * short_side:
        reduced.append(View(enlarged))
    turned = min(max(short_side, _THUMBNAIL_SHORT_SIDE_PX), _TURNED_SHORT_SIDE_PX, largest)
    return [*reduced, *(View(turned, quarter_turns) for quarter_turns in (1, 3, 2))]


def _quarter_turns(count: int, size_wh: tuple[int, int]) -> Transform:
    """Return turned_from_image for `np.rot90(image, count)`: counterclockwise in the picture."""
    turned_from_image = geometry.translation(0, 0)
    width, height = size_wh
    for _ in range(count):
        once = np.array([[0.0, 1, 0], [-1, 0, width - 1]])
        turned_from_image = chain(once, turned_from_image)
        width, height = height, width
    return turned_from_image


def _holds_large(found: Detection, short_side: int) -> bool:
    heights = [face.box_xyxy[3] - face.box_xyxy[1] for face in _confirmed(found.faces)]
    return max(heights, default=0) >= _LARGE_SHARE * short_side


def _confirmed(faces: list[Face]) -> list[Face]:
    """Return the faces that their close-ups show in the same place.

    Large faces are misplaced by up to half of their size, though their close-ups show a face.
    """
    return [face for face in faces if face.is_placed and face.close_up_score >= CONFIRMED_SCORE]


def _is_replaced(face: Face, added: list[Face]) -> bool:
    """Return whether one of the added faces is this one, found whole or placed better."""
    return any(
        is_duplicate(face, other)
        and (other.is_placed or not face.is_placed)
        and (other.close_up_score >= face.close_up_score or not face.is_placed)
        for other in added
    )


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


def deduplicate(faces: list[Face]) -> list[Face]:
    """Keep, of faces that lie on each other, the one of the highest score; left to right."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(face.distance_to(k) > k.eye_distance_px / 4 for k in kept):
            kept.append(face)
    return sorted(kept, key=lambda face: float(face.box_xyxy[0]))


@dataclass(frozen=True)
class NamedDetector:
    """A detector that is chosen by name, with the scores that suit it."""

    load: Callable[[str], RawDetector]
    """Takes a device."""
    sure_score: float = _SURE_SCORE
    confirmed_score: float = CONFIRMED_SCORE


def _load_retinaface(name: str, device: str) -> RawDetector:
    return retinaface(ensure_present(DETECTORS[name]), name, device, DETECTORS[name].sha256)


def _named_retinaface(name: str) -> NamedDetector:
    load = partial(_load_retinaface, name)
    return NamedDetector(load, _RETINAFACE_SURE_SCORE, _RETINAFACE_CONFIRMED_SCORE)


NAMED_DETECTORS: Mapping[str, NamedDetector] = {
    "centerface": NamedDetector(lambda _: centerface()),
    "retinaface-resnet50": _named_retinaface("retinaface-resnet50"),
    "retinaface-mobilenet": _named_retinaface("retinaface-mobilenet"),
}
"""In the order of `config.DetectorName`."""


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
    if name not in NAMED_DETECTORS:
        raise InputError(f"detector is {name!r}; allowed: auto, {', '.join(NAMED_DETECTORS)}")
    chosen = NAMED_DETECTORS[name]
    raw = chosen.load(device)
    return FaceDetector(name, raw, short_side_px, chosen.sure_score, chosen.confirmed_score)
