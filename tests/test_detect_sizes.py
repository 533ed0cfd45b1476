"""A real face of any size on any page is found where it was pasted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import skimage.data
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from gfpgan_core import geometry
from gfpgan_core.detect import FaceDetector, load_detector
from gfpgan_core.images import ImageU8

# Marked by hand on the sample portrait, enlarged: pupils, nose tip, mouth corners; the face from
# the hairline to the chin and from ear to ear; the head with some of what is around it.
MARKED = np.array([[203.6, 100.8], [246.2, 102.9], [225.8, 125.8], [202.9, 140.2], [243.5, 141.1]])
FACE_XYXY = np.array([180.0, 70, 268, 178])
HEAD_XYXY = (130, 0, 330, 200)
FACE_HEIGHT = 108


@dataclass(frozen=True)
class Pasted:
    """A photo into which the face was pasted, and where it is there."""

    photo: ImageU8
    landmarks: geometry.Points
    box_xyxy: geometry.Points
    eye_distance_px: float


def _page(kind: str, size_wh: tuple[int, int]) -> ImageU8:
    width, height = size_wh
    if kind == "grass":
        grass = getattr(skimage.data, "grass")()  # noqa: B009 - it has no types
        tiles = np.tile(grass, (height // 512 + 1, width // 512 + 1))[:height, :width]
        return np.dstack([tiles // 2, tiles, tiles // 3])
    page = np.full((height, width, 3), {"gray": 127, "black": 0, "white": 255}[kind], np.uint8)
    if kind == "white":
        for line, top in enumerate(range(30, height, 40)):
            text = "The quick brown fox jumps over the lazy dog. " * (width // 400 + 1)
            cv2.putText(page, text[line % 9 :], (5, top), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0))
    return page


def _pasted(
    portrait: ImageU8, height_px: int, kind: str, room: tuple[float, float], at: tuple[float, float]
) -> Pasted:
    """Paste the head, its face `height_px` high, into a page larger than it by `room` each way."""
    left, top, right, bottom = HEAD_XYXY
    side = round((right - left) * height_px / FACE_HEIGHT)
    head = np.asarray(geometry.resize(portrait[top:bottom, left:right], (side, side)), np.uint8)
    size_wh = round(side * room[0]), round(side * room[1])
    x, y = (int(share * (whole - side)) for share, whole in zip(at, size_wh, strict=True))
    photo = _page(kind, size_wh)
    photo[y : y + side, x : x + side] = head
    in_head = geometry.chain(
        geometry.scaling((right - left, bottom - top), (side, side)),
        geometry.translation(-left, -top),
    )
    to_photo = geometry.chain(geometry.translation(x, y), in_head)
    landmarks = geometry.apply(to_photo, MARKED)
    box = geometry.apply(to_photo, FACE_XYXY.reshape(2, 2)).reshape(4)
    return Pasted(photo, landmarks, box, geometry.eye_distance(landmarks))


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection of two boxes over their union."""
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))


@cache
def _centerface() -> FaceDetector:
    return load_detector("centerface")


# Of a page: larger ones are reduced before anything is looked for.
_MOST_SIDE_PX = 2000


@settings(
    max_examples=7,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    size=st.floats(0, 1),
    kind=st.sampled_from(["gray", "black", "white", "grass"]),
    room=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    at=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@example(size=0, kind="white", room=(0.9, 0.7), at=(0.2, 0.8))
@example(size=0, kind="black", room=(0, 0), at=(0, 0))
@example(size=0.5, kind="grass", room=(1, 0.5), at=(1, 1))
@example(size=1, kind="gray", room=(1, 1), at=(0.5, 0.5))
def test_a_face_of_any_size_is_found_where_it_was_pasted(
    portrait: ImageU8, size: float, kind: str, room: tuple[float, float], at: tuple[float, float]
) -> None:
    """From 24 to 1,500 px high; the truth was marked on the portrait by hand.

    Landmarks within 0.12 of the eye distance, beyond which a face is visibly misaligned. Boxes
    share 0.4 of their union with the face's: detectors differ on where a forehead ends.
    """
    height_px = round(24 * (1500 / 24) ** size)
    most = min(12.0, max(1.0, _MOST_SIDE_PX / (height_px * 200 / FACE_HEIGHT)))
    pasted = _pasted(portrait, height_px, kind, (most ** room[0], most ** room[1]), at)
    (face,) = _centerface()(pasted.photo)
    error = np.linalg.norm(face.landmarks - pasted.landmarks, axis=1).mean()
    assert error < 0.12 * pasted.eye_distance_px
    assert _overlap(face.box_xyxy, pasted.box_xyxy) > 0.4
