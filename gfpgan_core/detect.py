"""An image to the faces in it: the order of the looks, and which of the faces are taken.

The networks were trained on faces of about 10 to 300 px: a photo is looked at reduced for its large
faces and at up to 1280 px for its small ones. Each face found is looked at again, upright and close
up, which places its landmarks and tells a face from what only resembles one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gfpgan_core import geometry
from gfpgan_core.close_up import CONFIRMED_SCORE, look_closer
from gfpgan_core.detectors import Face, RawDetector, centerface, retinaface
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import Transform, chain, inverse, scaling
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

# Faces scored below it need close-ups that confirm them.
_SURE_SCORE = 0.65
# RetinaFace is surer of itself: it scores a hand 0.79 and a shoe 0.91, both with 0 close up, and a
# crumpled paper bag with 0.48; of 166 faces of eight photos, profiles and half-hidden ones as well,
# it shows each with at least 0.66 (with weights that others trained).
_RETINAFACE_SURE_SCORE = np.inf
_RETINAFACE_CONFIRMED_SCORE = 0.55

# A look takes 0.3 GiB a megapixel. Photos of up to 3.6 times their height stay below: of longer
# ones, faces below 1/60 of the height are lost.
_MOST_PIXELS = 6e6
# Looks of nearly one size show the same.
_LARGER = 1.25

# Turned by quarters, where no face was found upright: faces from 1/30 of the short side on.
_TURNED_SHORT_SIDE_PX = 320


@dataclass(frozen=True)
class Detection:
    """What was found in one photo."""

    faces: list[Face] = field(default_factory=list)
    """Left to right."""
    doubtful: list[Face] = field(default_factory=list)
    """What looked like a face at first, but not close up."""


@dataclass(frozen=True)
class Look:
    """How a photo is looked at as a whole."""

    short_side_px: int
    quarter_turns: int = 0
    """Counterclockwise."""


class Detector(Protocol):
    """`FaceDetector`, or whatever else tells where the faces are."""

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        """Find the faces in (H, W, 3) RGB."""


@dataclass(frozen=True)
class FaceDetector:
    """Finds faces at several bounded sizes, then looks at each again, upright and close up."""

    name: str
    raw: RawDetector
    short_side_px: int = WORKING_SHORT_SIDE_PX
    sure_score: float = _SURE_SCORE
    """From here on no close-up is needed."""
    confirmed_score: float = CONFIRMED_SCORE
    """Of close-ups that confirm a face."""

    def __call__(self, image: ImageU8, min_score: float = 0.5) -> list[Face]:
        """Return the faces, left to right. `image` is (H, W, 3) RGB."""
        return self.find(image, min_score).faces

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        """Find the faces, and what was taken for one at first. `image` is (H, W, 3) RGB.

        Further sizes are looked at only where the usual ones show no face that fills the photo, or
        none at all.
        """
        size_wh = (image.shape[1], image.shape[0])
        short_side = min(size_wh)
        found = self._confirm(image, self._ordinary_looks(image, min_score), self.sure_score)
        if short_side >= _REDUCED_FROM_PX and not _holds_large(found, short_side):
            found = self._look_again(image, Look(_REDUCED_SHORT_SIDE_PX), min_score, found)
        for look in _further_looks(size_wh):
            if _confirmed(found.faces):
                break
            found = self._look_again(image, look, min_score, found)
            if look.quarter_turns and _confirmed(found.faces):  # the whole photo is turned
                for side in self._ordinary_short_sides(size_wh):
                    turned = Look(side, look.quarter_turns)
                    found = self._look_again(image, turned, min_score, found)
        return found

    def _ordinary_looks(self, image: ImageU8, min_score: float) -> list[Face]:
        """Return what looks like a face at the usual sizes, each once."""
        faces: list[Face] = []
        for side in self._ordinary_short_sides((image.shape[1], image.shape[0])):
            faces += _new(self._seen_at(Look(side), image, min_score), faces)
        return faces

    def _ordinary_short_sides(self, size_wh: tuple[int, int]) -> list[int]:
        """Return the working size and, for larger photos, a finer one; thumbnails are enlarged."""
        short_side, largest = min(size_wh), _largest_short_side(size_wh)
        if short_side < _THUMBNAIL_SHORT_SIDE_PX:
            return [min(_MOST_ENLARGED * short_side, 2 * _THUMBNAIL_SHORT_SIDE_PX, largest)]
        working = min(short_side, self.short_side_px, largest)
        fine = min(short_side, _FINE_SHORT_SIDE_PX, largest)
        return [working, fine] if fine >= _LARGER * working else [working]

    def _look_again(
        self, image: ImageU8, look: Look, min_score: float, before: Detection
    ) -> Detection:
        """Add to what was found before what a look at another size shows.

        Such looks take more for a face: each must be confirmed close up, whatever its score.
        """
        seen = self._seen_at(look, image, min_score)
        added = self._confirm(image, _new(seen, _confirmed(before.faces)), sure_score=np.inf)
        kept = [face for face in before.faces if not _is_replaced(face, added.faces)]
        faces = deduplicate(kept + added.faces)
        doubtful = before.doubtful + _new(added.doubtful, before.doubtful)
        return Detection(faces, _new(doubtful, faces))

    def _seen_at(self, look: Look, image: ImageU8, min_score: float) -> list[Face]:
        """Detect in the image resized and turned; faces are in the image's own pixels."""
        size_wh = (image.shape[1], image.shape[0])
        factor = look.short_side_px / min(size_wh)
        working_wh = (max(1, round(size_wh[0] * factor)), max(1, round(size_wh[1] * factor)))
        working = image if working_wh == size_wh else geometry.resize(image, working_wh)
        turned = np.ascontiguousarray(np.rot90(working, look.quarter_turns))
        image_from_turned = chain(
            scaling(working_wh, size_wh), inverse(_quarter_turns(look.quarter_turns, working_wh))
        )
        (found,) = self.raw([turned], min_score)
        return [face.moved(image_from_turned) for face in found]

    def _confirm(self, image: ImageU8, faces: list[Face], sure_score: float) -> Detection:
        """Look closer: faces scored below `sure_score` are doubtful unless that confirms them."""
        closer = look_closer(self.raw, image, faces)
        least = self.confirmed_score
        is_sure = [face.score >= sure_score or face.close_up_score >= least for face in closer]
        doubtful = [face for face, sure in zip(closer, is_sure, strict=True) if not sure]
        sure_faces = [face for face, sure in zip(closer, is_sure, strict=True) if sure]
        return Detection(deduplicate(sure_faces), doubtful)


def _largest_short_side(size_wh: tuple[int, int]) -> int:
    """Return the short side at which a look has `_MOST_PIXELS`."""
    return max(1, math.isqrt(int(_MOST_PIXELS * min(size_wh) / max(size_wh))))


def _further_looks(size_wh: tuple[int, int]) -> list[Look]:
    """Return what to try where the usual looks show no face: reduced, enlarged, turned."""
    short_side, largest = min(size_wh), _largest_short_side(size_wh)
    reduced = [Look(side) for side in _OTHER_SHORT_SIDES_PX if _LARGER * side <= short_side]
    if short_side >= _REDUCED_FROM_PX:
        reduced.remove(Look(_REDUCED_SHORT_SIDE_PX))  # done already
    enlarged = min(2 * short_side, _FINE_SHORT_SIDE_PX, largest)
    if short_side >= _THUMBNAIL_SHORT_SIDE_PX and enlarged >= _LARGER * short_side:
        reduced.append(Look(enlarged))
    turned = min(max(short_side, _THUMBNAIL_SHORT_SIDE_PX), _TURNED_SHORT_SIDE_PX, largest)
    return [*reduced, *(Look(turned, quarter_turns) for quarter_turns in (1, 3, 2))]


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
    """Return whether later faces hold the whole of what was taken for a face, or a better one."""
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
    limits = (_RETINAFACE_SURE_SCORE, _RETINAFACE_CONFIRMED_SCORE)
    return FaceDetector(name, raw, short_side_px, *limits)
