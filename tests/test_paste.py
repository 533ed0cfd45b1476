from __future__ import annotations

import cv2
import numpy as np
import pytest

from gfpgan_core import geometry
from gfpgan_core.align import Crop, align
from gfpgan_core.detectors import Face
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import template_masks
from gfpgan_core.paste import RestoredFace, paste

SIZE = 512


def _face(x: float, y: float, scale: float, turn: float = 0.0) -> Face:
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    centered = geometry.TEMPLATE_LANDMARKS - 256
    landmarks = centered @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    return Face(np.array([x - 99, y - 99, x + 99, y + 99]), landmarks, 1.0)


FACES = [_face(250, 200, 0.6, 0.3), _face(60, 400, 0.35), _face(256, 256, 3.0), _face(400, 90, 1.0)]


def _restored(crop: Crop, change: int = 0) -> RestoredFace:
    pixels = np.clip(crop.pixels.astype(int) + change, 0, 255).astype(np.uint8)
    return RestoredFace(crop, pixels, template_masks([pixels])[0])


@pytest.mark.parametrize("face", FACES, ids=["turned", "at-edge", "huge", "plain"])
@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0])
def test_pasting_an_unchanged_crop_returns_the_image(
    portrait: ImageU8, face: Face, scale: float
) -> None:
    side = round(512 * scale)
    canvas = geometry.resize(portrait, (side, side))
    before = canvas.copy()
    paste(canvas, portrait, [_restored(align(portrait, face, SIZE))], blend=1, enlarged=False)
    assert np.abs(canvas.astype(int) - before).max() <= 2


def test_a_change_shows_inside_and_nothing_outside_the_face(portrait: ImageU8) -> None:
    face = FACES[0]
    crop = align(portrait, face, SIZE)
    canvas = portrait.copy()
    paste(canvas, portrait, [_restored(crop, -30)], blend=1, enlarged=False)
    changed = np.abs(canvas.astype(int) - portrait).max(axis=2)
    corners = np.array([[0, 0], [SIZE, 0], [SIZE, SIZE], [0, SIZE]]) - 0.5
    outline = geometry.apply(geometry.inverse(crop.crop_from_image), corners)
    inside = np.zeros(changed.shape, np.uint8)
    cv2.fillConvexPoly(inside, np.rint(outline).astype(np.int32), 1)
    inside = cv2.dilate(inside, np.ones((3, 3)))
    assert changed[inside == 0].max() == 0
    assert changed[150:250, 200:300].max() >= 29  # of 30, in the middle of the face


def test_blend_is_proportional(portrait: ImageU8) -> None:
    gray = np.full_like(portrait, 100)
    results = []
    for blend in (0.0, 0.5, 1.0):
        canvas = gray.copy()
        paste(
            canvas, gray, [_restored(align(gray, FACES[3], SIZE), 40)], blend=blend, enlarged=False
        )
        results.append(int(canvas[90, 400, 0]))
    assert results == [100, 120, 140]


def test_overlapping_faces_leave_no_seam() -> None:
    gray = np.full((512, 512, 3), 100, np.uint8)
    faces = [_face(220, 256, 0.5), _face(290, 256, 0.5)]
    canvas = gray.copy()
    restored = [_restored(align(gray, face, SIZE), 40) for face in faces]
    paste(canvas, gray, restored, blend=1, enlarged=False)
    row = canvas[256, :, 0].astype(int)
    assert row.max() == 140  # the change isn't added twice
    assert (
        np.abs(np.diff(row)).max() <= 4
    )  # the mask's own slope: 40 levels over 11 px sigma, halved
    assert row[180:330].min() == 140


def test_pasting_in_bands_changes_nothing(
    portrait: ImageU8, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for band_px in (10**9, 5_000):
        monkeypatch.setattr("gfpgan_core.paste.BAND_PX", band_px)
        canvas = geometry.resize(portrait, (1024, 1024))
        restored = [_restored(align(portrait, face, SIZE), 30) for face in FACES]
        paste(canvas, portrait, restored, blend=0.8, enlarged=False)
        results.append(canvas.astype(int))
    # Sums that differ by far less than a level are rounded to the same level or to neighbors.
    assert np.abs(results[0] - results[1]).max() <= 1


def test_under_a_face_the_networks_background_gives_way_to_the_photo(portrait: ImageU8) -> None:
    canvas = np.zeros((1024, 1024, 3), np.uint8)  # what a background network made
    face = FACES[3]
    paste(canvas, portrait, [_restored(align(portrait, face, SIZE))], blend=1, enlarged=True)
    expected = geometry.resize(portrait, (1024, 1024))
    middle = np.s_[120:240, 740:860]
    assert (
        np.abs(canvas[middle].astype(int) - expected[middle]).max() <= 12
    )  # Lanczos against cubic
    assert canvas[900, 100].max() == 0
