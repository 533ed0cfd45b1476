"""Photos to aligned faces: a second run adds to the first, and no photo takes others down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import HANG_S, ROOT
from faults import full_disk
from PIL import Image

from gfpgan_core import geometry, images
from gfpgan_core.detect import FaceDetector, load_detector
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from scripts import prepare_faces as command
from train import components
from train.prepare import Prepared, prepare_faces

pytestmark = pytest.mark.usefixtures("one_thread")

Prepare = Callable[..., Prepared]


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return load_detector("centerface")


def _write(path: Path, picture: ImageU8) -> None:
    images.write(path, images.encode(picture, None, "png"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tmp_path / "photos"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return tmp_path / "faces"


@pytest.fixture
def prepare(photos: Path, faces: Path, detector: FaceDetector) -> Prepare:
    """Prepare the faces of the photos in a folder; `a` is written there first, as a.png."""

    def run(
        folder: Path = photos,
        *,
        a: ImageU8 | None = None,
        to: Path = faces,
        detector: FaceDetector = detector,
        size_px: int = 64,
    ) -> Prepared:
        if a is not None:
            _write(folder / "a.png", a)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return prepare_faces(paths, to, detector, face_size_px=size_px, min_eye_distance_px=20)

    return run


def _state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _boxes(folder: Path) -> set[str]:
    return set(components.load_boxes(folder / "components.json"))


def _mirrored(picture: ImageU8) -> ImageU8:
    return np.ascontiguousarray(picture[:, ::-1])


def test_a_second_run_over_the_same_photos_changes_nothing(
    photos: Path, faces: Path, portrait: ImageU8, two_faces: ImageU8, prepare: Prepare
) -> None:
    _write(photos / "one.png", portrait)
    _write(photos / "two.png", two_faces)
    _write(photos / "empty.png", np.full((200, 200, 3), 90, np.uint8))
    first = prepare()
    before = _state(faces)
    assert {path.name for path in first.faces} == {"one.png", "two.png", "two_1.png"}

    def refuse(*_: object) -> None:
        raise AssertionError("a photo that is known was looked at again")

    second = prepare(detector=refuse)
    assert _state(faces) == before
    assert second.faces == first.faces and second.new == 0
    assert second.refused == first.refused
    assert "3 usable faces (3 from before)\n1 refused: no face found" in second.summary()


def test_pages_that_are_not_used_are_told_by_each_run(
    photos: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    pages = [Image.fromarray(picture) for picture in (portrait, portrait[::-1], portrait[:, ::-1])]
    photos.mkdir()
    for name in ("scan.tif", "moving.gif"):
        pages[0].save(photos / name, save_all=True, append_images=pages[1:])
    _write(photos / "one.png", portrait)
    for _ in range(2):
        summary = prepare().summary()
        told = "2 of several pages, of which one is used (moving.gif: page 1 of 3, scan.tif: page"
        assert f"{told} 1 of 3)" in summary


def test_damaged_photos_are_told_in_one_line(
    photos: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    """Pillow says how many bytes each lacks."""
    photos.mkdir()
    data = images.encode(portrait, None, "jpg")
    for lacking in range(5):
        (photos / f"{lacking}.jpg").write_bytes(data[: 9000 + lacking])
    lines = prepare().summary().splitlines()
    assert lines[0] == "0 usable faces" and len(lines) == 2
    assert lines[1].startswith("5 refused: the file is damaged or cut off")


def test_a_photo_that_needed_a_package_is_looked_at_again_when_it_is_there(
    photos: Path, portrait: ImageU8, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    photos.mkdir()
    Image.fromarray(portrait).save(photos / "a.heic", "HEIF")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pillow_heif", None)
        assert "1 refused: the file is HEIC, which needs the package" in prepare().summary()
    assert prepare().summary() == "1 usable face"


def test_a_second_album_adds_to_the_first(
    tmp_path: Path, faces: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    """Both cameras count alike; one photo is in both albums, and one was moved."""
    for album, picture in (("a", portrait), ("b", _mirrored(portrait))):
        _write(tmp_path / album / "IMG_0001.png", picture)
    _write(tmp_path / "b" / "copy.png", portrait)
    prepare(tmp_path / "a")
    before = _state(faces)
    result = prepare(tmp_path / "b")
    assert result.new == 1 and len(result.faces) == 2 and result.copies == 0
    after = _state(faces)
    assert after["IMG_0001.png"] == before["IMG_0001.png"]
    assert set(after) - set(before) == {"IMG_0001_1.png"}
    assert _boxes(faces) == {"IMG_0001.png", "IMG_0001_1.png"}
    (tmp_path / "a").rename(tmp_path / "moved")
    assert prepare(tmp_path / "moved").new == 0


def test_an_edited_photo_replaces_its_faces(
    photos: Path, faces: Path, portrait: ImageU8, two_faces: ImageU8, prepare: Prepare
) -> None:
    prepare(a=two_faces)
    before = _state(faces)
    assert prepare(a=_mirrored(portrait)).new == 1
    after = _state(faces)
    assert set(before) - set(after) == {"a_1.png"} and after["a.png"] != before["a.png"]
    assert _boxes(faces) == {"a.png"}
    prepare(a=np.full((200, 200, 3), 90, np.uint8))
    assert not list(faces.glob("*.png")) and _boxes(faces) == set()


def test_an_edited_photo_leaves_the_faces_of_its_copy(
    photos: Path, faces: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    for name in ("a.png", "copy.png"):
        _write(photos / name, portrait)
    result = prepare()
    assert "1 usable face\n1 passed over: copies of other photos" in result.summary()
    before = _state(faces)
    prepare(a=_mirrored(portrait))
    assert _state(faces)["a.png"] == before["a.png"]  # the copy's
    assert _boxes(faces) == {"a.png", "a_1.png"}


def test_a_photo_that_became_another_known_one_gives_its_faces_up(
    photos: Path, faces: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    _write(photos / "a.png", portrait)
    _write(photos / "b.png", _mirrored(portrait))
    prepare()
    _write(photos / "b.png", portrait)
    for _ in range(2):
        assert [path.name for path in prepare().faces] == ["a.png"]
        assert _boxes(faces) == {"a.png"} and not (faces / "b.png").exists()


def test_another_face_size_makes_the_faces_anew(
    photos: Path, faces: Path, two_faces: ImageU8, prepare: Prepare
) -> None:
    prepare(a=two_faces)
    result = prepare(size_px=128)
    assert result.new == 2
    assert {path.name for path in faces.glob("*.png")} == {"a.png", "a_1.png"}
    assert images.read_rgb(faces / "a.png").shape == (128, 128, 3)


def test_faces_that_somebody_removed_stay_removed_and_boxes_that_somebody_mended_stay(
    photos: Path, faces: Path, two_faces: ImageU8, prepare: Prepare
) -> None:
    prepare(a=two_faces)
    (faces / "a_1.png").unlink()
    mended = components.template_boxes().round(2) + 1
    components.save_boxes(faces / "components.json", {"a.png": mended})
    result = prepare()
    assert [path.name for path in result.faces] == ["a.png"] and result.removed == 1
    assert "1 faces of earlier runs were removed" in result.summary()
    table = components.load_boxes(faces / "components.json")
    assert set(table) == {"a.png"} and np.allclose(table["a.png"], mended, atol=0.01)


def test_faces_of_a_version_without_a_journal_are_known_by_their_pixels(
    photos: Path, faces: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    prepare(a=portrait)
    (faces / "prepared.jsonl").unlink()
    prepare()
    assert {path.name for path in faces.glob("*.png")} == {"a.png"}


def test_a_name_as_long_as_the_file_system_allows_is_shortened(
    photos: Path, faces: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    _write(photos / "a.png", portrait)
    (photos / "a.png").rename(photos / ("ä" * 125 + ".png"))  # 254 bytes
    (face,) = prepare().faces
    assert face.name == "ä" * 100 + ".png"


def _arguments(photos: Path, faces: Path) -> list[str]:
    return [str(photos), str(faces), "--face-size", "128", "--min-eye-distance", "20"]


def test_the_command_goes_on_after_a_full_disk_and_passes_its_own_faces_over(
    photos: Path,
    faces: Path,
    portrait: ImageU8,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    _write(photos / "a.jpg", portrait)  # a PNG, whatever its name says
    (photos / "._a.jpg").write_bytes(b"\0\5\x16\7")
    (photos / "b.jfif").write_bytes(images.encode(_mirrored(portrait), None, "jpg"))
    (photos / "cut_off.png").write_bytes((photos / "a.jpg").read_bytes()[:3000])
    faces = photos / "faces"  # a folder in the photos' own
    full = subprocess.run(
        [sys.executable, "-m", "scripts.prepare_faces", *_arguments(photos, faces)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        preexec_fn=full_disk(15_000),
    )
    assert full.returncode == 1
    assert "a.png can't be written: File too large" in full.stderr
    assert "Traceback" not in full.stderr
    assert not list(faces.glob("*.png")) and not list(faces.glob("*.partial"))
    for new in ("", " (2 from before)"):
        assert command.main(_arguments(photos, faces)) == 0
        assert f"2 usable faces{new}\n1 refused: the file is damaged" in capsys.readouterr().out
        assert "1 hidden (._a.jpg)" in caplog.text
        caplog.clear()
    assert {path.name for path in faces.glob("*.png")} == {"a.png", "b.png"}
    assert set(json.loads((faces / "components.json").read_text())) == {"a.png", "b.png"}


def test_a_destination_that_cant_be_used_is_named(
    tmp_path: Path,
    photos: Path,
    faces: Path,
    portrait: ImageU8,
    prepare: Prepare,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _write(photos / "a.png", portrait)
    assert command.main(_arguments(photos, photos)) == 1
    assert "can't be its own destination" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file can't be made: File exists"):
        prepare(to=tmp_path / "file")
    faces.mkdir()
    (faces / "components.json").write_text("{")
    with pytest.raises(InputError, match="can't be read as component boxes"):
        prepare()
    assert (faces / "components.json").read_text() == "{"


def test_landmarks_of_prepared_faces_lie_on_the_template(
    photos: Path, faces: Path, portrait: ImageU8, prepare: Prepare
) -> None:
    turned = geometry.warp(
        portrait, np.array([[0.9, -0.3, 100], [0.3, 0.9, -40]], np.float64), (512, 512)
    )
    prepare(a=turned)
    table = components.load_boxes(faces / "components.json")
    assert np.abs(table["a.png"] - components.template_boxes()).max() < 25
