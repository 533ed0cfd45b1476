from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from conftest import ROOT, real_weights

from gfpgan_core import detect, geometry
from gfpgan_core.detect import NAMED_DETECTORS, FaceDetector, is_duplicate, load_detector
from gfpgan_core.detectors import Face, retinaface
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.images import ImageU8
from gfpgan_core.weights.releases import DETECTORS

# Marked by hand on the sample portrait, enlarged 8 times: pupils, nose tip, mouth corners.
MARKED = np.array([[203.6, 100.8], [246.2, 102.9], [225.8, 125.8], [202.9, 140.2], [243.5, 141.1]])
# Of the eye distance: a face is visibly misaligned beyond. The errors of 3.0 to 3.5 px in this file
# are the detector's own; what another processor's sums change of them is below 0.01 px.
TOLERANCE_PX = 0.12 * 42.6


@pytest.fixture(scope="module")
def centerface() -> FaceDetector:
    return load_detector("centerface")


def _error(faces: list[Face], marked: np.ndarray) -> float:
    return min(float(np.linalg.norm(f.landmarks - marked, axis=1).mean()) for f in faces)


@pytest.mark.parametrize("name", [name for name in NAMED_DETECTORS if name not in DETECTORS])
def test_a_detector_without_weights_finds_the_portrait(name: str, portrait: ImageU8) -> None:
    (face,) = load_detector(name)(portrait)
    assert face.score > 0.7
    assert _error([face], MARKED) < TOLERANCE_PX
    left, top, right, bottom = face.box_xyxy
    assert left < MARKED[:, 0].min() and right > MARKED[:, 0].max()
    assert top < MARKED[:, 1].min() and bottom > MARKED[:, 1].max()


@pytest.mark.parametrize("factor", [0.2, 0.5, 2, 4])
def test_landmarks_scale_with_the_photo(
    centerface: FaceDetector, portrait: ImageU8, factor: float
) -> None:
    side = round(512 * factor)
    marked = geometry.apply(geometry.scaling((512, 512), (side, side)), MARKED)
    faces = centerface(geometry.resize(portrait, (side, side)))
    assert _error(faces, marked) < TOLERANCE_PX * factor


def test_a_tilted_face_is_found_upright(centerface: FaceDetector, portrait: ImageU8) -> None:
    turn = np.array([[0.866, -0.5, 150], [0.5, 0.866, 0.0]])  # 30 degrees
    tilted = geometry.warp(portrait, turn, (512, 512))
    assert _error(centerface(tilted), geometry.apply(turn, MARKED)) < TOLERANCE_PX


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_face_on_its_side_or_head_down_is_found(
    centerface: FaceDetector, portrait: ImageU8, quarter_turns: int
) -> None:
    turned = np.ascontiguousarray(np.rot90(portrait, quarter_turns))
    marked = MARKED
    for _ in range(quarter_turns):  # counterclockwise: the right edge comes to the top
        marked = np.column_stack([marked[:, 1], 511 - marked[:, 0]])
    (face,) = centerface(turned)
    assert _error([face], marked) < TOLERANCE_PX


def test_a_photo_is_turned_where_no_face_is_seen_upright() -> None:
    """By a detector that sees upright faces alone, as most do."""
    landmarks = geometry.TEMPLATE_LANDMARKS * 0.2 + (40, 10)
    photo = np.zeros((200, 300, 3), np.uint8)
    photo[0, 0] = 255  # the corner that is at the top left in the upright photo

    def raw(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        if batch[0].shape == (224, 224, 3):
            middle = geometry.TEMPLATE_LANDMARKS.mean(axis=0)
            close = (geometry.TEMPLATE_LANDMARKS - middle) * 40 / 125.92 + 111.5
            return [[Face(np.array([70.0, 60, 150, 160]), close, 0.9)] for _ in batch]
        is_upright = bool(batch[0].shape == photo.shape and batch[0][0, 0, 0] == 255)
        return [[Face(np.array([45.0, 15, 135, 105]), landmarks, 0.9)] * is_upright]

    for turns in range(4):
        (face,) = FaceDetector("fake", raw)(np.ascontiguousarray(np.rot90(photo, turns)))
        expected = landmarks
        for turn in range(turns):
            side = 299 if turn % 2 == 0 else 199
            expected = np.column_stack([expected[:, 1], side - expected[:, 0]])
        assert np.abs(face.landmarks - expected).max() < 1


def test_two_faces_and_none(centerface: FaceDetector, two_faces: ImageU8) -> None:
    faces = centerface(two_faces)
    assert len(faces) == 2
    assert faces[0].box_xyxy[0] < faces[1].box_xyxy[0]
    assert centerface(np.full((300, 400, 3), 128, np.uint8)) == []


def test_small_faces_of_a_large_photo_are_found_and_none_twice(portrait: ImageU8) -> None:
    """Four of 14 px between the eyes, 6 at the first look, beside a large one."""
    photo = np.full((1500, 2200, 3), 110, np.uint8)
    photo[:, 700:] = geometry.resize(portrait, (1500, 1500))
    small = geometry.resize(portrait, (170, 170))
    for row in range(4):
        photo[60 + 360 * row : 230 + 360 * row, 100:270] = small
    faces = load_detector("centerface")(photo)
    eyes = sorted(round(geometry.eye_distance(face.landmarks)) for face in faces)
    assert len(faces) == 5
    assert all(11 < distance < 17 for distance in eyes[:4]) and eyes[4] > 100


def test_a_face_half_hidden_behind_another_is_another() -> None:
    """Boxes as in a photo of 47 people, where the second look's landmarks were poor."""

    def face(box: tuple[float, ...], eyes: float) -> Face:
        left, top, right, bottom = box
        x, y = (left + right) / 2, (top + bottom) / 2 + 10
        landmarks = np.array([[-eyes, -5], [eyes, -5], [0, 0], [-eyes, 5], [eyes, 5]]) / 2
        return Face(np.array(box), np.add(landmarks, (x, y)), 0.9)

    front = face((20, 35, 100, 146), 38)
    assert not is_duplicate(face((11, 0, 70, 80), 15), front)
    assert is_duplicate(face((24, 30, 98, 140), 36), front)  # the same, seen again
    assert is_duplicate(face((40, 100, 80, 130), 12), front)  # its mouth


def _detector_of(first: Face, in_close_ups: float | None) -> FaceDetector:
    """A detector that sees one face in the photo, and it again with a score close up, or not."""

    def raw(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        if batch[0].shape == (300, 300, 3):
            return [[first] for _ in batch]
        if in_close_ups is None or batch[0].shape != (224, 224, 3):
            return [[] for _ in batch]
        middle = geometry.TEMPLATE_LANDMARKS.mean(axis=0)
        landmarks = (geometry.TEMPLATE_LANDMARKS - middle) * 40 / 125.92 + 111.5
        return [[Face(np.array([70.0, 60, 150, 160]), landmarks, in_close_ups)] for _ in batch]

    return FaceDetector("fake", raw)


@pytest.mark.parametrize(
    ("score", "close_up", "is_face"),
    [(0.54, None, False), (0.54, 0.15, False), (0.54, 0.8, True), (0.9, None, True)],
)
def test_a_low_score_needs_the_close_ups_to_agree(
    score: float, close_up: float | None, is_face: bool
) -> None:
    """As of a crumpled paper bag in a photo: 0.54 at first, 0.15 close up."""
    landmarks = geometry.TEMPLATE_LANDMARKS * 0.2 + 100
    face = Face(np.array([110.0, 110, 190, 200]), landmarks, score)
    found = _detector_of(face, close_up).find(np.zeros((300, 300, 3), np.uint8))
    assert [f.score for f in found.faces] == [score] * is_face
    assert [f.score for f in found.doubtful] == [score] * (not is_face)
    if is_face and close_up:
        assert found.faces[0].close_up_score == close_up


@pytest.mark.parametrize(
    ("score", "close_up", "is_face"),
    [(0.91, None, False), (0.5, 0.48, False), (0.65, 0.66, True), (1.0, 1.0, True)],
)
def test_retinaface_is_never_sure_without_close_ups(
    score: float, close_up: float | None, is_face: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a shoe, the paper bag and a half-hidden profile in photos."""
    landmarks = geometry.TEMPLATE_LANDMARKS * 0.2 + 100
    fake = _detector_of(Face(np.array([110.0, 110, 190, 200]), landmarks, score), close_up)
    monkeypatch.setattr(detect, "ensure_present", lambda file: Path(file.name))
    monkeypatch.setattr(detect, "retinaface", lambda *_: fake.raw)
    found = load_detector("retinaface-mobilenet").find(np.zeros((300, 300, 3), np.uint8))
    assert (len(found.faces), len(found.doubtful)) == (is_face, not is_face)


def _aligned(portrait: ImageU8, side: int) -> tuple[ImageU8, np.ndarray]:
    """The portrait's face as an aligned crop, and its marked landmarks there."""
    to_crop = geometry.fit_to_template(MARKED, side)
    crop = geometry.warp(portrait, to_crop, (side, side))
    return np.asarray(crop, np.uint8), geometry.apply(to_crop, MARKED)


@pytest.mark.parametrize("side", [16, 25, 60])
def test_a_face_in_a_thumbnail_is_found(
    centerface: FaceDetector, portrait: ImageU8, side: int
) -> None:
    crop, marked = _aligned(portrait, side)
    assert _error(centerface(crop), marked) < 0.2 * 126 * side / 512


# Left, top, right, bottom in the portrait.
HAIRLINE_ON, BROWS_ON, EYES_ON = (165, 50, 290, 185), (180, 75, 270, 165), (170, 85, 290, 185)


@pytest.mark.parametrize(
    ("box", "height"),
    [(HAIRLINE_ON, 400), (BROWS_ON, 400), (EYES_ON, 100), (EYES_ON, 400), (EYES_ON, 1600)],
)
def test_one_face_that_fills_the_frame_is_found(
    centerface: FaceDetector, portrait: ImageU8, box: tuple[int, int, int, int], height: int
) -> None:
    left, top, right, bottom = box
    size_wh = (round((right - left) * height / (bottom - top)), height)
    close = geometry.resize(portrait[top:bottom, left:right], size_wh)
    to_photo = geometry.scaling((right - left, bottom - top), size_wh)
    marked = geometry.apply(to_photo, MARKED - np.array([left, top]))
    (face,) = centerface(close)
    assert _error([face], marked) < 0.2 * geometry.eye_distance(marked)


def test_parts_of_a_large_portrait_are_no_faces(
    centerface: FaceDetector, portrait: ImageU8
) -> None:
    crop, marked = _aligned(portrait, 1241)
    (face,) = centerface(crop)
    assert _error([face], marked) < 0.12 * geometry.eye_distance(marked)


@pytest.mark.parametrize("size_wh", [(512, 512), (960, 640)])
def test_a_photo_with_an_ordinary_face_costs_a_tenth_more_at_most(
    centerface: FaceDetector, portrait: ImageU8, size_wh: tuple[int, int]
) -> None:
    """In pixels given to the network, against one look, a finer one, and two close-ups a face."""
    width, height = size_wh
    photo = np.full((height, width, 3), 120, np.uint8)
    photo[:, :height] = geometry.resize(portrait, (height, height))
    pixels = 0

    def counted(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        nonlocal pixels
        pixels += sum(image.shape[0] * image.shape[1] for image in batch)
        return centerface.raw(batch, min_score)

    (_face,) = FaceDetector("counted", counted)(photo)
    first = min(1, 640 / height) ** 2 * width * height
    finer = width * height if height > 640 else 0
    assert pixels <= 1.1 * (first + finer + 2 * 224**2)


@pytest.mark.parametrize("size_wh", [(16_384, 16), (16, 16_384), (16_384, 100), (16_384, 700)])
def test_a_photo_of_any_shape_is_looked_at_in_bounded_pixels(size_wh: tuple[int, int]) -> None:
    """A strip that is enlarged to 160 px in height would be 160,000 px long."""
    seen = _seen_in(size_wh)
    assert max(width * height for width, height in seen) <= 6e6
    assert sum(width * height for width, height in seen) <= 25e6


def test_views_differ_in_size() -> None:
    """A screenshot of a phone gains nothing from 1280 px beside a view of 1170."""
    for size_wh in [(1170, 2532), (1080, 1920), (640, 480), (150, 150), (900, 600)]:
        *upright, _, _, _ = _seen_in(size_wh)  # the last are turned by quarters
        sides = sorted(min(seen) for seen in upright)
        assert all(larger >= 1.25 * side for side, larger in pairwise(sides)), (size_wh, sides)


def _seen_in(size_wh: tuple[int, int]) -> list[tuple[int, int]]:
    """The sizes of the views of a photo without a face."""
    seen: list[tuple[int, int]] = []

    def raw(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        seen.extend((image.shape[1], image.shape[0]) for image in batch)
        return [[] for _ in batch]

    assert FaceDetector("counted", raw)(np.zeros((size_wh[1], size_wh[0], 3), np.uint8)) == []
    return seen


@pytest.mark.parametrize("name", ["chelsea", "rocket", "grass"])
def test_photos_without_a_face_have_none(centerface: FaceDetector, name: str) -> None:
    photo = getattr(skimage.data, name)()
    photo = np.dstack([photo] * 3) if photo.ndim == 2 else photo
    assert centerface(np.ascontiguousarray(photo[:400, :400])) == []


def test_an_unknown_detector_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(InputError, match="detector is 'unknown'; allowed: auto, centerface"):
        load_detector("unknown")


def test_a_detector_without_its_weights_is_an_error_unless_it_is_a_choice_among_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"detection_Resnet50_Final\.pth"):
        load_detector("retinaface-resnet50")
    assert load_detector("auto").name == "centerface"


@pytest.mark.real_weights
def test_retinaface_finds_the_portrait(portrait: ImageU8) -> None:
    path = real_weights("retinaface_mobilenet0.25_third_party.pth")
    detector = FaceDetector("mobilenet", retinaface(path, "retinaface-mobilenet", "cpu"))
    faces = detector(portrait)
    assert _error(faces, MARKED) < TOLERANCE_PX


def test_retinaface_resnet50_runs_with_the_official_names(
    tmp_path: Path, portrait: ImageU8
) -> None:
    """Random weights: what it finds means nothing, that it loads strictly and decodes does."""
    from facexlib.detection.retinaface import RetinaFace

    model = RetinaFace(network_name="resnet50", device=torch.device("cpu"))
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "resnet50.pth")
    raw = retinaface(tmp_path / "resnet50.pth", "retinaface-resnet50", "cpu")
    (faces,) = raw([portrait[:128, :160]], 0.0)
    assert faces and all(face.landmarks.shape == (5, 2) for face in faces)


def test_retinaface_refuses_other_weights(tiny_weights: Path) -> None:
    with pytest.raises(WeightsError, match="doesn't fit RetinaFace"):
        retinaface(tiny_weights, "retinaface-mobilenet", "cpu")


@pytest.mark.real_weights
def test_retinaface_sees_a_batch_as_it_sees_each_image(portrait: ImageU8) -> None:
    path = real_weights("retinaface_mobilenet0.25_third_party.pth")
    raw = retinaface(path, "retinaface-mobilenet", "cpu")
    empty = np.full_like(portrait, 90)
    both, none, mirrored = raw([portrait, empty, portrait[:, ::-1]], 0.6)
    assert none == [] and len(both) == len(mirrored) == 1
    (alone,) = raw([portrait], 0.6)[0]
    assert np.abs(both[0].landmarks - alone.landmarks).max() < 0.01
    assert _error([alone], MARKED) < TOLERANCE_PX


def test_photos_without_a_face_cost_what_the_documentation_says() -> None:
    """A row for each photo: its size, and the megapixels of the usual looks and of all."""
    text = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) x (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
    assert len(rows) == 6
    for width, height, usual, every, times in rows:
        seen: list[float] = []

        def raw(batch: list[ImageU8], _: float, seen: list[float] = seen) -> list[list[Face]]:
            seen.extend(image.shape[0] * image.shape[1] / 1e6 for image in batch)
            return [[] for _ in batch]

        finder = FaceDetector("blind", raw)
        finder.find(np.zeros((int(height), int(width), 3), np.uint8))
        megapixels = sum(seen)
        first = sum(seen[: 2 if min(int(height), int(width)) >= 800 else 1])
        assert (f"{first:.2f}", f"{megapixels:.2f}") == (usual, every)
        assert f"{megapixels / first:.1f}" == times
