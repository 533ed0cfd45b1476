"""For any folder: nothing goes missing without a word, no bad file takes the rest down, no original
changes, and the second run works as the first did."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_runs import FakeRestorer, contents, photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gfpgan_core import images
from gfpgan_core.__main__ import main
from gfpgan_core.cli import restore

# Whatever a name may hold: every character and byte but the slash and zero.
_TEXT = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=12)
_STEMS = st.one_of(
    st.sampled_from(["a", "A", "a_2", "a_0", "-", "--json", "~", "a\x1b[2J", "p" * 246, "é" * 123]),
    _TEXT,
    st.binary(max_size=12).map(lambda b: os.fsdecode(b.replace(b"/", b"").replace(b"\0", b""))),
)
_PHOTO_SUFFIXES = (".jpg", ".JPG", ".png", ".jfif", ".webp", ".heic")
_SUFFIXES = st.sampled_from([*_PHOTO_SUFFIXES, "", ".txt", ".tar.gz", "."])
_NAMES = (
    st.tuples(_STEMS, _SUFFIXES)
    .map("".join)
    .filter(lambda name: name not in ("", ".", "..") and len(os.fsencode(name)) <= 255)
)
_FOLDERS = st.sampled_from(["", "", "1950", "1950/may", "faces", "a.jpg"])


@dataclass(frozen=True)
class _File:
    folder: str
    name: str
    kind: str
    """photo, text, empty, pipe, or link to nowhere."""

    @property
    def fate(self) -> str:
        """What must become of it."""
        if self.name.startswith("."):
            return "passed over"
        if self.kind in ("photo", "link"):
            return {"photo": "restored", "link": "failed"}[self.kind]
        has_suffix = Path(self.name).suffix.lower() in _PHOTO_SUFFIXES
        return "failed" if has_suffix else "passed over"

    def make(self, album: Path, seed: int) -> None:
        path = album / self.folder / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.kind == "photo":
            photo(path, seed, format="PNG")
        elif self.kind == "pipe":
            os.mkfifo(path)
        elif self.kind == "link":
            path.symlink_to(path.with_name("nowhere"))
        else:
            path.write_bytes(b"no photo" if self.kind == "text" else b"")


_KINDS = st.sampled_from(["photo", "photo", "photo", "text", "empty", "pipe", "link"])
_TAKEN = ("1950", "faces", "a.jpg")  # as folders
_FILES: st.SearchStrategy[list[_File]] = st.lists(
    st.builds(_File, _FOLDERS, _NAMES, _KINDS).filter(
        lambda file: file.folder != "" or file.name not in _TAKEN
    ),
    max_size=8,
    unique_by=lambda file: (file.folder, file.name),
)
_QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@pytest.fixture(autouse=True, scope="module")
def no_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(restore, "load_restorer", lambda _: FakeRestorer())
        yield


@contextlib.contextmanager
def _album(files: list[_File]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        album = Path(folder) / "album"
        album.mkdir()
        for seed, file in enumerate(files):
            file.make(album, seed)
        yield album


def _run(*arguments: object) -> tuple[dict[str, Any], dict[str, str]]:
    """The closing numbers, and input -> output of each photo."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        main(["restore", *map(str, arguments), "--json"])
    *lines, numbers = map(json.loads, printed.getvalue().splitlines())
    return numbers, {line["input"]: line["output"] for line in lines if "output" in line}


def _originals(album: Path, files: list[_File]) -> dict[Path, bytes]:
    paths = [album / file.folder / file.name for file in files if file.kind != "pipe"]
    return {path: path.read_bytes() for path in paths if path.is_file()}


@_QUICK
@given(_FILES, st.booleans(), st.booleans())
def test_every_file_is_restored_or_reported_and_no_original_changes(
    files: list[_File], in_place: bool, overwrite: bool
) -> None:
    with _album(files) as album:
        out = album if in_place else album.parent / "out"
        before = _originals(album, files)
        options = ("--save-faces", *["--overwrite"] * overwrite)
        numbers, results = _run(album, "--output", out, *options)
        fates = [file.fate for file in files]
        assert numbers["restored"] == fates.count("restored")
        assert numbers["failed"] == fates.count("failed")
        assert sum(numbers["passed_over"].values()) == fates.count("passed over")
        assert numbers["not_tried"] == 0
        assert {path: path.read_bytes() for path in before} == before
        assert len(set(results.values())) == len(results) == numbers["restored"]
        for source, result in results.items():
            assert Path(result).parent == out / Path(source).parent.relative_to(album)
            assert (images.read_rgb(Path(result)) == images.read_rgb(Path(source))).all()


@_QUICK
@given(_FILES, st.booleans(), st.data())
def test_later_runs_change_nothing_and_resuming_fills_the_gaps(
    files: list[_File], in_place: bool, data: st.DataObject
) -> None:
    with _album(files) as album:
        out = album if in_place else album.parent / "out"
        arguments = (album, "--output", out)
        first, results = _run(*arguments)
        after_first = contents(out)
        second, _ = _run(*arguments)
        assert contents(out) == after_first
        assert (second["restored"], second["failed"]) == (first["restored"], first["failed"])
        gaps = (
            data.draw(st.lists(st.sampled_from(sorted(results.values())), unique=True))
            if (results)
            else []
        )
        for gap in gaps:
            Path(gap).unlink()
        resumed, _ = _run(*arguments, "--resume")
        assert contents(out) == after_first
        assert resumed["restored"] == len(gaps)
        assert resumed["passed_over"].get("done already", 0) == first["restored"] - len(gaps)


@_QUICK
@given(st.lists(_FILES, min_size=2, max_size=3))
def test_a_further_album_leaves_the_earlier_ones_results(albums: list[list[_File]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        earlier: dict[str, bytes] = {}
        for files in albums:
            with _album(files) as album:
                numbers, _ = _run(album, "--output", out)
            now = contents(out) if out.exists() else {}
            assert earlier.items() <= now.items()
            assert numbers["restored"] == [file.fate for file in files].count("restored")
            earlier = now
