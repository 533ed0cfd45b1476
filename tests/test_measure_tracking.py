"""The figures of docs/video.md: what flickers, and what only moves."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_network

from gfpgan_core.detect import Detection
from gfpgan_core.detectors import Face
from gfpgan_core.geometry import TEMPLATE_LANDMARKS
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from scripts.measure_tracking import flicker, make_clip, restored, true_faces

pytestmark = pytest.mark.usefixtures("one_thread")


class _Blind:
    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        raise AssertionError("the faces are known")


def _face(x: float, y: float, size: float) -> Face:
    landmarks = (TEMPLATE_LANDMARKS - 256) * size + (x, y)
    return Face(np.array([x - 60, y - 60, x + 60, y + 60]), landmarks, 0.9, 0.9, is_placed=True)


def test_a_moving_face_does_not_flicker_and_a_flash_does() -> None:
    clip = make_clip(6)
    faces = true_faces(clip, _face(160, 160, 0.5))
    # At half the contrast, so that no level is cut off.
    still = [np.asarray(image // 2 + 60, np.uint8) for image in clip.clean]
    resampling = flicker(still, faces)
    assert resampling < 1.5
    flashing = [np.asarray(image + 20 * (n % 2), np.uint8) for n, image in enumerate(still)]
    assert flicker(flashing, faces) == pytest.approx(20, abs=resampling)
    # The same frames as if nothing had moved: the motion itself, by far more.
    assert flicker(still, [faces[0]] * 6) > 2 * resampling


def test_frames_are_restored_where_the_faces_are_known_to_be() -> None:
    restorer = FaceRestorer(random_network(3).eval(), _Blind(), backend="torch")
    gray = np.full((200, 300, 3), 100, np.uint8)
    places = (60, 200)
    results = restored(restorer, [gray, gray], [_face(x, 100, 0.2) for x in places])
    for result, x in zip(results, places, strict=True):
        rows, columns = np.nonzero((result != 100).any(axis=2))
        assert len(rows) > 1000
        assert x - 52 <= columns.min() and columns.max() <= x + 52  # 512 px at 0.2, from the middle
        assert rows.min() >= 48 and rows.max() <= 152
