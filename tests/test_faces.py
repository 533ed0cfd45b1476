"""Collections of faces: what is taken, what is passed over, and what ends a training at once."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import PORTRAIT
from training_runs import full_run, tiny_run

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from train import components, face_check
from train.dataset import FaceDataset
from train.degradation_config import DegradationConfig
from train.face_check import (
    describe_changes,
    find_bad_faces,
    read_record,
    usable_faces,
    write_record,
)
from train.faces import Faces, open_faces
from train.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")


def _with_bad_faces(faces: Path, folder: Path) -> Path:
    """Five good faces and four files that can't be trained on."""
    shutil.copytree(faces, folder)
    good = (folder / "0.png").read_bytes()
    (folder / "cut_off.png").write_bytes(good[: len(good) // 2])
    (folder / "letter.jpg").write_bytes(b"Dear sir or madam")
    (folder / "empty.webp").write_bytes(b"")
    wide = images.read_rgb(folder / "0.png")[:50]
    images.write(folder / "wide.png", images.encode(wide, None, "png"))
    (folder / "._0.png").write_bytes(b"\0\5\x16\7")  # as macOS leaves beside each file
    return folder


BAD = ["cut_off.png", "empty.webp", "letter.jpg", "wide.png"]


def test_files_are_told_by_their_content_and_hidden_ones_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = PORTRAIT.read_bytes()
    members = {
        "a.jpg": data,
        "b.jfif": data,
        "sub/c.mpo": data,
        "without_suffix": data,
        "notes.txt": b"Dear sir",
        "._a.jpg": b"\0\5\x16\7",
        ".trash/d.jpg": data,
        "__MACOSX/a.jpg": data,
    }
    folder = tmp_path / "folder"
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.jpg")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for name in members:
            zipped.write(folder / name, name)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in members:
            tar.add(folder / name, name)
    for source in ("folder", "a.zip", "a.tar"):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            found = open_faces(tmp_path / source)
        assert found.names == ("a.jpg", "b.jfif", "sub/c.mpo", "without_suffix")
        assert all(found.read(name) == data for name in found.names)
        assert "3 hidden" in caplog.text and "1 not an image (notes.txt)" in caplog.text


@pytest.mark.parametrize("decode", [True, False])
def test_all_bad_faces_are_found_at_once(faces: Path, tmp_path: Path, decode: bool) -> None:
    found = open_faces(_with_bad_faces(faces, tmp_path / "faces"))
    bad = find_bad_faces(found, found.names, decode=decode)
    # Headers don't tell that the rest of a file is missing.
    assert sorted(bad) == [name for name in BAD if decode or name != "cut_off.png"]
    assert "96x50 px; training takes square" in bad["wide.png"]


def test_bad_faces_are_left_out_with_a_warning_or_refused_before_the_first_step(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _with_bad_faces(faces, tmp_path / "faces")
    config = tiny_run(folder, tmp_path / "run", steps=5, validation_faces=str(folder))
    with pytest.raises(InputError, match=r"4 of 9 files in .* can't be used") as refused:
        train(dataclasses.replace(config, on_bad_face="refuse"))
    lines = str(refused.value).splitlines()[1:-1]
    assert [line.split(" ")[2] for line in lines] == sorted(BAD)
    assert [line.count(name) for line, name in zip(lines, sorted(BAD), strict=True)] == [1] * 4
    assert not (tmp_path / "run" / "log.jsonl").exists()
    train(config)  # two epochs: every face is drawn
    assert all(f"\n  {name} " in caplog.text for name in BAD)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    assert [entry["validation"]["faces"] for entry in log if "validation" in entry] == [5]


def test_a_folder_of_nothing_but_bad_faces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match="1 of 1 files"):
        usable_faces(open_faces(tmp_path), skip=True, decode=True, known=None)


def test_faces_that_were_found_usable_are_not_decoded_again(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "faces"
    shutil.copytree(faces, own)
    write_record(open_faces(own), tmp_path, decoded=True)
    (own / "1.png").write_bytes((own / "1.png").read_bytes() + b"\0")
    looked_at = []
    monkeypatch.setattr(face_check, "load_face", lambda _, name, size: looked_at.append(name))
    usable_faces(open_faces(own), skip=False, decode=True, known=read_record(tmp_path))
    assert looked_at == ["1.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_of_an_archive_the_members_that_changed_are_told(
    faces: Path, tmp_path: Path, suffix: str
) -> None:
    own = tmp_path / "faces"
    shutil.copytree(faces, own)

    def packed(name: str) -> Faces:
        path = tmp_path / f"{name}{suffix}"
        shutil.make_archive(str(path.with_suffix("")), suffix[1:], own)
        return open_faces(path)

    write_record(packed("before"), tmp_path, decoded=True)
    (own / "0.png").unlink()
    (own / "1.png").write_bytes((own / "2.png").read_bytes())
    shutil.copy(own / "3.png", own / "new.png")
    record = read_record(tmp_path)
    assert record is not None
    found = packed("after")
    said = "1 added (X); 1 removed (Y); 1 changed (Z)"
    for letter, name in zip("XYZ", ("new.png", "0.png", "1.png"), strict=True):
        said = said.replace(letter, _as_packed(found, name))
    assert describe_changes(record, found) == said


def _as_packed(found: Faces, name: str) -> str:
    return ("./" if found.names[0].startswith("./") else "") + name


def test_a_face_that_breaks_during_the_training_is_replaced_by_the_next(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "faces"
    shutil.copytree(faces, own)

    def dataset(*, skip: bool) -> FaceDataset:
        return FaceDataset(
            open_faces(own), DegradationConfig(), face_size_px=64, seed=7, skip_bad_faces=skip
        )

    skipping, strict = dataset(skip=True), dataset(skip=False)
    (own / "3.png").unlink()
    for k in range(5):
        assert skipping[k].gt.shape == (3, 64, 64)
    assert caplog.text.count("the next face is shown in its place") == 1
    with pytest.raises(InputError, match=r"3\.png can't be read"):
        for k in range(5):
            strict[k]


def _boxes_for(names: list[str], folder: Path) -> None:
    boxes = {name: components.template_boxes() for name in names}
    components.save_boxes(folder / "components.json", boxes)


def test_boxes_of_other_faces_are_an_error_and_boxes_of_some_a_warning(
    faces: Path, tmp_path: Path, mobilenet: str, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "faces"
    shutil.copytree(faces, own)
    _boxes_for(["x.png", "y.png"], own)
    config = full_run(own, tmp_path / "run", mobilenet, steps=1)
    with pytest.raises(InputError, match="has boxes for 0 of the 5 faces"):
        train(config)
    _boxes_for(["0.png", "4.png"], own)
    train(config)
    assert "has boxes for 2 of the 5 faces" in caplog.text
    assert "the others (1.png, 2.png, 3.png) are taken where the template" in caplog.text


def test_an_unreadable_member_doesnt_take_the_others_along(
    portrait: ImageU8, tmp_path: Path
) -> None:
    data = images.encode(portrait[:64, :64], None, "png")
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.png", "broken", "c.png"):
            archive.writestr(name, data)
    content = bytearray(path.read_bytes())
    content[content.index(b"broken") - 30] ^= 0xFF  # its local header
    path.write_bytes(content)
    assert open_faces(path).names == ("a.png", "c.png")
