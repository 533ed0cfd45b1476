"""Faces of several collections to three sets of other people each, and their augmentation."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from gfpgan_core import images
from gfpgan_core.detectors import Face as DetectedFace
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_LANDMARKS
from gfpgan_core.images import ImageU8
from train.augmentation import AugmentationConfig, augment, change_light
from train.components import load_boxes, template_boxes
from train.split import (
    FaceFile,
    read_collection,
    split_by_person,
    without_replaced,
    write_boxes,
    write_sets,
)


def _collection(folder: Path, side_px: int, rows: list[dict[str, str]]) -> None:
    folder.mkdir()
    for row in rows:
        pixels = np.full((side_px, side_px, 3), 100, np.uint8)
        images.write(folder / row["file"], images.encode(pixels, None, "png"))
    with folder.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["file", "person", "source", "same_as"])
        writer.writeheader()
        writer.writerows(rows)


def test_a_better_copy_replaces_the_worse_one(tmp_path: Path) -> None:
    row = {"file": "0.png", "person": "p", "source": "s", "same_as": ""}
    _collection(tmp_path / "old", 16, [row, row | {"file": "1.png"}])
    _collection(tmp_path / "new", 32, [row | {"same_as": "old/1.png"}])
    faces = [face for name in ("old", "new") for face in read_collection(tmp_path / name)]
    assert [face.name for face in without_replaced(faces)] == ["old/0.png", "new/0.png"]


def test_without_a_table_every_file_is_a_person(tmp_path: Path) -> None:
    _collection(tmp_path / "bare", 16, [{"file": "007_usdc.png", "person": "x"}])
    (tmp_path / "bare.csv").unlink()
    assert read_collection(tmp_path / "bare") == [
        FaceFile(tmp_path / "bare" / "007_usdc.png", "bare/007_usdc", "usdc")
    ]
    with pytest.raises(InputError, match="holds no images"):
        read_collection(tmp_path / "none")
    (tmp_path / "bare.csv").write_text("name,person\n")
    with pytest.raises(InputError, match="lacks the columns file, person"):
        read_collection(tmp_path / "bare")


def _faces() -> list[FaceFile]:
    """300 faces of 200 people in two sources and two folders; every other person has two."""
    faces = []
    for person in range(200):
        folder, source = ("a", "b")[person % 2], ("x", "y")[person // 100]
        for photo in range(1 + (person // 2) % 2):
            faces.append(FaceFile(Path(folder) / f"{person}_{photo}.png", f"p{person}", source))
    return faces


def test_no_person_is_in_two_sets_and_every_source_is_in_each() -> None:
    sets = split_by_person(_faces(), 0.1)
    people = {name: {face.person for face in faces} for name, faces in sets.items()}
    assert not people["train"] & people["choose"]
    assert not people["train"] & people["report"]
    assert not people["choose"] & people["report"]
    assert {name: len(found) for name, found in people.items()} == {
        "train": 160,
        "choose": 20,
        "report": 20,
    }
    for faces in sets.values():
        assert {(face.path.parent.name, face.source) for face in faces} == {
            (folder, source) for folder in "ab" for source in "xy"
        }
    for name in ("choose", "report"):
        assert len(sets[name]) == len(people[name])  # one face of each


def test_the_sets_do_not_depend_on_the_order_of_the_faces() -> None:
    assert split_by_person(_faces(), 0.1) == split_by_person(_faces()[::-1], 0.1)


def test_small_faces_are_left_out_and_large_ones_reduced(tmp_path: Path) -> None:
    collections = {"small": 16, "same": 32, "large": 64}
    for name, side_px in collections.items():
        _collection(tmp_path / name, side_px, [{"file": "0.png", "person": name}])
    faces = [face for name in collections for face in read_collection(tmp_path / name)]
    assert write_sets({"train": faces}, tmp_path / "out", 32) == {"train": 2}
    found = sorted((tmp_path / "out" / "train").iterdir())
    assert [path.name for path in found] == ["large-0.png", "same-0.png"]
    assert {images.decode(path.read_bytes(), "").rgb.shape for path in found} == {(32, 32, 3)}
    assert found[1].read_bytes() == (tmp_path / "same" / "0.png").read_bytes()


def test_boxes_are_those_of_the_aligned_face_and_strangers_get_none(tmp_path: Path) -> None:
    for name in ("aligned", "other"):
        pixels = np.full((64, 64, 3), 100 if name == "aligned" else 200, np.uint8)
        images.write(tmp_path / f"{name}.png", images.encode(pixels, None, "png"))
    landmarks = TEMPLATE_LANDMARKS + np.array([4, -4])

    def detector(image: ImageU8) -> list[DetectedFace]:
        points = (landmarks + 0.5) / 8 - 0.5  # of 64 px
        away = DetectedFace(np.array([0.0, 0, 9, 9]), points + 20, 0.9)
        near = DetectedFace(np.array([0.0, 0, 9, 9]), points, 0.8)
        return [away, near] if image[0, 0, 0] == 100 else [away]

    assert write_boxes(tmp_path, detector) == 1
    found = load_boxes(tmp_path / "components.json")
    assert list(found) == ["aligned.png"]
    expected = template_boxes()
    expected[:, :2] += (4, -4)
    assert np.abs(found["aligned.png"] - expected).max() < 0.02  # rounded in the file


def test_an_augmented_face_keeps_its_boxes_on_what_they_hold() -> None:
    """A bright square in each box is still in the middle of it afterwards."""
    size = 256
    boxes = template_boxes() / 2
    config = AugmentationConfig(warp_probability=1, shift_px=40, turn_degrees=10, scale=(0.8, 1.2))
    for seed in range(6):
        for row in range(3):
            face = np.zeros((size, size, 3), np.uint8)
            x, y = np.rint(boxes[row, :2]).astype(int)
            face[y - 4 : y + 5, x - 4 : x + 5] = 255
            exact = boxes.copy()
            exact[row, :2] = x, y
            found, moved = augment(face, exact, config, np.random.default_rng(seed))
            ys, xs = np.nonzero(found[..., 0] > 100)
            assert np.hypot(xs.mean() - moved[row, 0], ys.mean() - moved[row, 1]) < 0.7
            assert len(xs) ** 0.5 / 9 == pytest.approx(moved[row, 2] / boxes[row, 2], rel=0.12)
            assert (exact[row, :2] == (x, y)).all()


def test_no_augmentation_draws_nothing(portrait: ImageU8) -> None:
    rng = np.random.default_rng(0)
    face, boxes = augment(portrait, template_boxes(), AugmentationConfig(), rng)
    assert face is portrait
    assert (boxes == template_boxes()).all()
    assert rng.random() == np.random.default_rng(0).random()


def test_light_changes_are_exact_on_gray_levels() -> None:
    face = np.array([[[0, 64, 255]]], np.uint8)
    assert (change_light(face, gamma=1, contrast=1, warmth=0) == face).all()
    darker = change_light(face, gamma=2, contrast=1, warmth=0)
    assert darker.flatten().tolist() == [0, round(64 * 64 / 255), 255]
    flatter = change_light(face, gamma=1, contrast=0.5, warmth=0)
    assert flatter.flatten().tolist() == [64, 96, 191]
    gray = np.full((1, 1, 3), 100, np.uint8)
    warm = change_light(gray, gamma=1, contrast=1, warmth=0.1)[0, 0]
    assert warm[0] > 100 == warm[1] > warm[2]


def test_impossible_augmentation_is_refused() -> None:
    with pytest.raises(InputError, match="warp_probability is 2"):
        AugmentationConfig(warp_probability=2)
    with pytest.raises(InputError, match="scale is"):
        AugmentationConfig(scale=(1.2, 0.8))
