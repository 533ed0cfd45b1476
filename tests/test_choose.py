"""Which faces are restored, by name, number, size and box; and how they are listed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pages
import pytest
from conftest import ROOT, random_network

from gfpgan_core import geometry, images
from gfpgan_core.__main__ import main
from gfpgan_core.choose import choose, describe, find, select
from gfpgan_core.cli import listing, restore
from gfpgan_core.config import RestoreOptions, parse_faces
from gfpgan_core.detect import Detection
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_LANDMARKS, TEMPLATE_SIZE_PX
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.result import Restoration

_GRAY = np.full((200, 400, 3), 128, np.uint8)
TEMPLATE_FACE_HEIGHT = 330  # from the hairline to the chin of an aligned face of 512 px


def _face(left: float, size_px: float, score: float = 0.9) -> Face:
    """A face of that size, whose box begins there."""
    landmarks = TEMPLATE_LANDMARKS * (size_px / TEMPLATE_SIZE_PX) + (left, 20)
    return Face(np.array([left, 20, left + size_px, 20 + size_px]), landmarks, score)


class _Seen:
    """A detector that knows where the faces are; it sees those that lie in the part it is shown."""

    def __init__(self, *faces: Face, hidden: Face | None = None) -> None:
        self.faces, self.hidden = faces, hidden

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        if image.shape == _GRAY.shape:
            return Detection(list(self.faces), [_face(10, 30, 0.55)])
        assert self.hidden is not None
        left = int(image[0, 0, 0])  # the pictures below hold their own coordinates
        landmarks = self.hidden.landmarks - (left, 0)
        return Detection([Face(self.hidden.box_xyxy - (left, 0, left, 0), landmarks, 0.8)])


_THREE = _Seen(_face(300, 90), _face(40, 60), _face(150, 120))


def _chosen(**options: Any) -> tuple[list[int], list[tuple[int, str]]]:
    """The numbers of the restored faces, and of the others with the reasons."""
    asked = RestoreOptions(**options)
    faces, left_alone = choose(find(_THREE, _GRAY, asked), asked, (400, 200))
    return [face.number for face in faces], [(one.face.number, one.reason) for one in left_alone]


def test_faces_are_counted_from_left_to_right_and_doubtful_ones_not() -> None:
    found = find(_THREE, _GRAY, RestoreOptions())
    assert [(face.number, face.box_xyxy[0]) for face in found.faces] == [
        (1, 40),
        (2, 150),
        (3, 300),
    ]
    assert [face.number for face in found.doubtful] == [0]


def test_numbers_choose_whatever_the_size() -> None:
    doubtful = (0, "doubtful")
    assert _chosen(faces=(1, 3), min_eye_distance_px=20) == ([1, 3], [(2, "not chosen"), doubtful])
    with pytest.raises(InputError, match="face 4 is asked for, and the photo has 3"):
        _chosen(faces=(2, 4))


def test_faces_beyond_either_size_are_left_alone() -> None:
    eyes_px = TEMPLATE_LANDMARKS[1, 0] - TEMPLATE_LANDMARKS[0, 0]  # of 512
    smallest, largest = (eyes_px * side / TEMPLATE_SIZE_PX for side in (60, 120))
    limits = {"min_eye_distance_px": smallest + 1, "max_eye_distance_px": largest - 1}
    assert _chosen(**limits) == ([3], [(1, "too small"), (2, "too large"), (0, "doubtful")])
    with pytest.raises(InputError, match="the first not above the second"):
        RestoreOptions(min_eye_distance_px=9, max_eye_distance_px=8)


@pytest.mark.parametrize(
    ("text", "faces"),
    [("all", "all"), ("largest", "largest"), ("2", (2,)), ("3, 1,3", (1, 3)), ("9999", (9999,))],
)
def test_a_choice_is_read(text: str, faces: object) -> None:
    assert parse_faces(text) == faces


@pytest.mark.parametrize("text", ["", "0", "-1", "1,", "first", "1;2", "1.5", "²", "99999", "1-3"])
def test_another_text_is_no_choice(text: str) -> None:
    with pytest.raises(InputError, match="numbers from left to right such as 1,3"):
        parse_faces(text)


def test_a_face_is_looked_for_in_a_box_and_found_where_the_photo_showed_none() -> None:
    photo = np.empty_like(_GRAY)
    photo[...] = np.arange(400).clip(0, 255)[None, :, None]
    hidden = _face(100, 60)
    asked = RestoreOptions(boxes=((100, 20, 160, 80),))
    (face,) = find(_Seen(hidden=hidden), photo, asked).faces
    assert np.allclose(face.landmarks, hidden.landmarks, atol=0.5) and face.number == 1
    with pytest.raises(InputError, match=r"the box 180, 20, 220, 60 shows no face"):
        find(_Seen(hidden=hidden), photo, RestoreOptions(boxes=((180, 20, 220, 60),)))
    with pytest.raises(InputError, match="not inside of the photo, which is 400x200 px"):
        find(_Seen(hidden=hidden), photo, RestoreOptions(boxes=((380, 20, 420, 60),)))
    with pytest.raises(InputError, match="left before right"):
        RestoreOptions(boxes=((50, 20, 40, 60),))


def _documented_fields() -> set[str]:
    text = (ROOT / "docs" / "faces.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"\| field \| meaning \|\n.*?\n((?:\|.*\n)+)", text)
    cells = [row.split("|")[1] for row in table.splitlines()]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.fixture(scope="module")
def restorer() -> FaceRestorer:
    from gfpgan_core.detect import load_detector

    network = random_network(3).eval()
    return FaceRestorer(network, load_detector("centerface"), backend="torch")


Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(
    two_faces: ImageU8,
    restorer: FaceRestorer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command of docs/faces.md as JSON; returns what is said of each photo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(restore, "load_restorer", lambda _: restorer)
    images.write(tmp_path / "group.jpg", images.encode(two_faces, None, "jpg"))
    images.write(tmp_path / "photo.jpg", images.encode(two_faces[100:420, 520:], None, "jpg"))

    def run(command: str, *more: str) -> list[dict[str, Any]]:
        assert main([*shlex.split(command)[3:], *more]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [json.loads(line) if line.startswith("{") else {"text": line} for line in lines]

    return run


def test_the_documented_commands_choose_what_they_say(run: Run, two_faces: ImageU8) -> None:
    listing_command, first, boxed = pages.commands("faces.md")
    (listed,) = run(listing_command, "--json")
    assert [face["number"] for face in listed["faces"]] == [1, 2]
    first_face, second_face = listed["faces"]
    assert first_face["eye_distance"] > second_face["eye_distance"]
    restored, _ = run(first, "--json")
    assert [face["number"] for face in restored["faces"]] == [1]
    assert [(one["number"], one["reason"]) for one in restored["left_alone"]] == [(2, "not chosen")]
    # The same of the same face, and more of a restored one; this network's crops have 64 px.
    same = restored["faces"][0]
    unlike = {name for name, value in first_face.items() if same[name] != value}
    assert unlike <= {"sharpness", "noise"}
    assert same["blend"] == 1 and same["seconds"] > 0 and len(same["landmarks"]) == 5
    given = {name for group in ("faces", "left_alone") for face in restored[group] for name in face}
    assert given == _documented_fields()
    restored, _ = run(boxed, "--json")
    (face,) = restored["faces"]
    assert np.allclose(face["landmarks"], listed["faces"][1]["landmarks"], atol=8)
    assert restored["left_alone"] == []


def test_the_documented_blend_is_the_one_that_the_face_asks_for(run: Run) -> None:
    (command,) = pages.commands("blend.md")
    restored, _ = run(command, "--json")
    (face,) = restored["faces"]
    by_noise = min(max((face["noise"] - 3) / 27, 0), 1)  # as the page says
    assert abs(face["blend"] - max(1 - face["sharpness"], by_noise)) < 0.006


def test_a_list_is_readable_and_failures_count(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [line["text"] for line in run(pages.commands("faces.md")[0])]
    assert said[0] == "group.jpg: 2 faces"
    assert re.fullmatch(
        r"  face 1: box \d+,\d+,\d+,\d+, score 0\.\d\d, eye distance \d+ px, sharpness [01]\.\d\d,"
        r" noise \d+\.\d",
        said[1],
    )
    assert not (tmp_path / "output").exists()
    (tmp_path / "bad.jpg").write_text("no photo")
    assert main(["restore", "group.jpg", "bad.jpg", "--list"]) == 1
    assert "bad.jpg is no image" in capsys.readouterr().err


def test_a_list_of_nothing_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(tmp_path / "a.png")
    images.write(Path(photo), images.encode(np.zeros((8, 8, 3), np.uint8), None, "png"))
    (tmp_path / "album").mkdir()
    for arguments, text in (
        ([str(tmp_path / "album")], "there is no photo to look for faces in"),
        ([photo, "--aligned"], "--aligned looks for no faces"),
        ([photo, "--report"], "--report shows what was restored"),
    ):
        assert main(["restore", *arguments, "--list"]) == 1
        printed = capsys.readouterr()
        assert text in printed.err and not printed.out


def test_saved_faces_have_the_numbers_of_the_list() -> None:
    crop = np.zeros((8, 8, 3), np.uint8)
    face = replace(_dummy(10, 40), number=3)
    chosen = Restoration(crop, None, "png", [face], [crop], [crop])
    aligned = Restoration(crop, None, "png", [], [crop], [crop])
    assert (chosen.numbers(), aligned.numbers()) == ([3], [1])


def test_the_finder_of_a_list_needs_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    assert callable(listing.load_finder("centerface", "cpu"))


def _dummy(x: float, eyes: float) -> Face:
    template = TEMPLATE_LANDMARKS - TEMPLATE_LANDMARKS[0]
    landmarks = template * eyes / np.linalg.norm(template[1]) + (x, 50)
    return Face(np.array([x, 40, x + eyes, 80]), landmarks, 1.0)


def test_select_largest_and_center() -> None:
    faces = [_dummy(10, 40), _dummy(95, 10), _dummy(160, 20)]
    assert select(faces, "all", (200, 100)) == faces
    assert select(faces, "largest", (200, 100)) == [faces[0]]
    assert select(faces, "center", (200, 100)) == [faces[1]]
    assert select([], "largest", (200, 100)) == []


def _profile(x: float, height: float) -> Face:
    """A head seen from the side: the template's heights, its eyes and mouth a sixth as wide."""
    scale = height / TEMPLATE_FACE_HEIGHT
    middle = TEMPLATE_LANDMARKS.mean(axis=0)
    landmarks = (TEMPLATE_LANDMARKS - middle) * scale * np.array([0.15, 1])
    landmarks[2] += (-0.2 * height, 0)  # the nose points to the left
    corners = np.array([[-0.3, -0.5], [0.3, 0.5]]) * height
    place = np.array([x, height])
    return Face((corners + place).ravel(), landmarks + place, 0.75)


def test_a_profile_is_as_large_as_its_crop() -> None:
    """A profile 69 px tall, its eyes 3.9 px apart, against a frontal face of the same height."""
    profile = _profile(100, 69)
    assert geometry.eye_distance(profile.landmarks) < 5
    frontal = 126 * 69 / TEMPLATE_FACE_HEIGHT
    assert 0.6 * frontal < profile.eye_distance_px < 1.4 * frontal
    faces, left_alone = choose(Detection([profile]), RestoreOptions(), (200, 200))
    assert faces == [profile] and left_alone == []


def test_the_largest_face_is_that_of_the_largest_crop() -> None:
    frontal = Face(np.array([300.0, 20, 340, 72]), TEMPLATE_LANDMARKS * 0.15, 0.9)
    profile = _profile(100, 108)
    assert geometry.eye_distance(profile.landmarks) < geometry.eye_distance(frontal.landmarks)
    assert select([frontal, profile], "largest", (400, 300)) == [profile]


def test_faces_left_alone_are_told_with_the_reason() -> None:
    small, large, larger, bag = _dummy(10, 4), _dummy(50, 20), _dummy(90, 30), _dummy(150, 20)
    options = RestoreOptions(faces="largest", min_eye_distance_px=10)
    faces, left_alone = choose(Detection([small, large, larger], [bag]), options, (200, 100))
    assert faces == [larger]
    reasons = [(one.face, one.reason) for one in left_alone]
    assert reasons == [(large, "not chosen"), (small, "too small"), (bag, "doubtful")]
    assert describe(left_alone) == "3 left alone (1 not chosen, 1 too small, 1 doubtful)"
    assert describe([]) == ""
