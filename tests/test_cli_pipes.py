"""`restore` with `-` in place of a path: a photo through pipes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from cli_runs import FakeRestorer, photo, visible
from conftest import ROOT, SAMPLE
from PIL import Image

from gfpgan_core.__main__ import main
from gfpgan_core.cli import inputs, restore


class Piped:
    """The command line in this process: bytes in, and what came out."""

    def __init__(
        self, capture: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._capture, self._monkeypatch = capture, monkeypatch
        self.out, self.err = b"", ""

    def __call__(self, *arguments: object, given: bytes = b"") -> int:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        status = main(["restore", *map(str, arguments)])
        self.out, errors = self._capture.readouterr()
        self.err = errors.decode()
        return status


@pytest.fixture
def piped(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Piped:
    monkeypatch.setattr(restore, "load_restorer", lambda _: FakeRestorer())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.chdir(tmp_path)
    return Piped(capfdbinary, monkeypatch)


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize(("wanted", "written"), [("auto", "WEBP"), ("png", "PNG"), ("jpg", "JPEG")])
def test_a_photo_goes_through_pipes_and_leaves_no_file(
    wanted: str, written: str, piped: Piped, tmp_path: Path
) -> None:
    given = photo(tmp_path / "photo.webp").read_bytes()
    (tmp_path / "photo.webp").unlink()
    assert piped("-", "--output", "-", "--format", wanted, given=given) == 0
    assert Image.open(io.BytesIO(piped.out)).format == written
    if written == "PNG":
        assert np.array_equal(_pixels(piped.out), _pixels(given))
    assert "-: 1 face, 0.0 s -> standard output\n1 restored, 0 failed" in piped.err
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


def test_either_side_may_be_a_file_or_a_folder(piped: Piped, tmp_path: Path) -> None:
    source = photo(tmp_path / "a.png")
    assert piped(source, "--output", "-") == 0
    assert np.array_equal(_pixels(piped.out), _pixels(source.read_bytes()))
    assert piped("-", "--output", "out", "--save-faces", given=source.read_bytes()) == 0
    assert visible(tmp_path / "out") == [
        *("faces/stdin_1.png", "faces/stdin_1_before_after.png", "stdin.png")
    ]
    assert piped("-", "--output", "b.jpg", "--json", given=source.read_bytes()) == 0
    assert json.loads(piped.out.splitlines()[0])["input"] == "-"
    assert Image.open(tmp_path / "b.jpg").format == "JPEG"
    assert piped("-", "--output", "b.jpg", "--resume", given=source.read_bytes()) == 0
    assert b"1 done already" in piped.out
    assert piped("-", "--output", "b.jpg", "--resume", given=SAMPLE.read_bytes()) == 1
    assert "is no result of this photo" in piped.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-", "a.png", "--output", "-"), "name no other input beside it"),
        (("-", "-"), "name no other input beside it"),
        (("a.png", "b.png", "--output", "-"), "one photo: name a folder"),
        ((".", "--output", "-"), "one photo: name a folder"),
        (("a.png", "--output", "-", "--json"), "--json writes there too"),
        (("a.png", "--output", "-", "--save-faces"), "--save-faces needs files: name a folder"),
        (("a.png", "--output", "-", "--report"), "--report needs files"),
        (("a.png", "--output", "-", "--resume"), "--resume needs files"),
    ],
)
def test_what_cannot_go_through_a_pipe_is_refused(
    arguments: tuple[str, ...], message: str, piped: Piped, tmp_path: Path
) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png", 1)
    assert piped(*arguments, given=(tmp_path / "a.png").read_bytes()) == 1
    assert message in piped.err
    assert piped.out == b""


def test_no_photo_and_too_much_of_one_are_said(
    piped: Piped, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert piped("-", "--output", "-", given=b"Dear sir or madam") == 1
    assert piped.err.startswith("-: FAILED: ") and piped.out == b""
    assert piped("-", "--output", "-") == 1
    assert piped.err.startswith("-: FAILED: ") and piped.out == b""
    monkeypatch.setattr(inputs, "MAX_IMAGE_BYTES", 100)
    assert piped("-", "--output", "-", given=bytes(101)) == 1
    assert "goes on after 100 bytes" in piped.err


def test_terminals_are_neither_read_nor_filled_with_bytes(piped: Piped, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    main_side, terminal = os.openpty()
    for arguments, message in (
        (["-", "--output", "x.png"], "reads a photo from the standard input: redirect it"),
        (["a.png", "--output", "-"], "writes the picture itself: redirect it"),
    ):
        result = subprocess.run(
            [sys.executable, "-m", "gfpgan_core", "restore", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=terminal,
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert result.returncode == 1
        assert message in result.stderr
    os.close(terminal)
    os.close(main_side)


def test_a_closed_output_is_said(
    piped: Piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdout", None)
    assert piped("a.png", "--output", "-") == 1
    assert "--output - writes the picture itself: redirect it" in piped.err


def test_a_reader_that_goes_away_fails_the_photo_in_one_line(
    piped: Piped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    photo(tmp_path / "a.png")
    with os.fdopen(writer, "w") as broken:
        monkeypatch.setattr(sys, "stdout", broken)
        assert piped("a.png", "--output", "-") == 1
    assert piped.err == (
        "a.png: FAILED: the standard output can't be written: Broken pipe\n"
        "0 restored, 1 failed, 0 passed over\n"
    )
