from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import real_weights

from gfpgan_core import geometry
from gfpgan_core.detect import Face, FaceDetector, _is_of, load_detector, retinaface, select
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.images import ImageU8

# Marked by hand on the sample portrait, enlarged 8 times: pupils, nose tip, mouth corners.
MARKED = np.array([[203.6, 100.8], [246.2, 102.9], [225.8, 125.8], [202.9, 140.2], [243.5, 141.1]])
TOLERANCE_PX = 0.12 * 42.6  # of the eye distance: a face is visibly misaligned beyond


@pytest.fixture(scope="module")
def centerface() -> FaceDetector:
    return load_detector("centerface")


def _error(faces: list[Face], marked: np.ndarray) -> float:
    return min(float(np.linalg.norm(f.landmarks - marked, axis=1).mean()) for f in faces)


def test_centerface_finds_the_portrait(centerface: FaceDetector, portrait: ImageU8) -> None:
    (face,) = centerface(portrait)
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
    assert not _is_of(face((11, 0, 70, 80), 15), front)
    assert _is_of(face((24, 30, 98, 140), 36), front)  # the same, seen again
    assert _is_of(face((40, 100, 80, 130), 12), front)  # its mouth


def _dummy(x: float, eyes: float) -> Face:
    landmarks = np.array([[x, 50], [x + eyes, 50], [x, 60], [x, 70], [x + eyes, 70]])
    return Face(np.array([x, 40, x + eyes, 80]), landmarks, 1.0)


def test_select_largest_and_centre() -> None:
    faces = [_dummy(10, 40), _dummy(95, 10), _dummy(160, 20)]
    assert select(faces, "all", (200, 100)) == faces
    assert select(faces, "largest", (200, 100)) == [faces[0]]
    assert select(faces, "center", (200, 100)) == [faces[1]]
    assert select([], "largest", (200, 100)) == []


def test_unknown_and_absent_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="detector is 'yolo'; allowed: auto, centerface"):
        load_detector("yolo")
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
