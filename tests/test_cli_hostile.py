"""The command line under attack, and under a system that fails it."""

from __future__ import annotations

import io
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_runs import Cli, cli, photo, visible

from gfpgan_core import images
from gfpgan_core.cli import record, results
from gfpgan_core.cli.inputs import find_photos
from gfpgan_core.cli.record import Entry
from gfpgan_core.cli.report import Stream, printable
from gfpgan_core.cli.results import check_writable
from gfpgan_core.errors import InputError
from gfpgan_core.runtime import checked_device

__all__ = ["cli"]

NOBODY = 65534


@contextmanager
def _as_nobody() -> Iterator[None]:
    """Without root's right to read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_tmp_path(tmp_path: Path) -> Path:
    """A folder that everybody may look into, whoever runs the tests."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            if folder.stat().st_uid != os.geteuid():
                pytest.skip(f"{folder} can't be opened to other users")
            folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of-"):
            break
    return tmp_path


def test_what_is_no_file_is_never_opened(cli: Cli, tmp_path: Path) -> None:
    """A pipe without a writer would wait for ever, a device or a sparse file never end."""
    album = photo(tmp_path / "album" / "a.png").parent
    os.mkfifo(album / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(album / "s.jpg"))
    os.truncate(photo(album / "sparse.png"), 30 << 30)
    (album / "zero.jpg").symlink_to("/dev/zero")
    (album / "null").symlink_to("/dev/null")
    os.mkfifo(album / "other")
    assert cli(album, "/dev/null", album / "other", "--output", tmp_path / "out") == 1
    for name in ("pipe.jpg", "s.jpg", "zero.jpg", "/dev/null", "other"):
        assert f"{name}: FAILED: it is a pipe, socket or device" in cli.err
    assert "sparse.png: FAILED: it has 32212254720 bytes" in cli.err
    assert cli.closing == "1 restored, 6 failed, 2 passed over: 2 not images"


def test_an_unreadable_folder_or_photo_is_reported_and_the_rest_found(open_tmp_path: Path) -> None:
    album = photo(open_tmp_path / "album" / "a.png").parent
    photo(album / "b.png").chmod(0)
    photo(album / "closed" / "c.png").parent.chmod(0)
    try:
        with _as_nobody():
            found = find_photos([str(album)])
    finally:
        (album / "closed").chmod(0o700)
    assert [source.path.name for source in found.photos] == ["a.png"]
    problems = {Path(name).name: text for name, text in found.problems}
    assert problems == {
        "b.png": "can't be read: Permission denied",
        "closed": "can't be searched: Permission denied",
    }


def test_a_folder_that_takes_no_file_is_noticed(open_tmp_path: Path) -> None:
    closed = open_tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for folder in (closed, closed / "new" / "deeper"):
        with _as_nobody(), pytest.raises(InputError, match=r"closed: Permission denied.*--output"):
            check_writable(folder)
    (open_tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory"):
        check_writable(open_tmp_path / "file" / "out")


def test_an_unusable_output_is_noticed_before_the_network_is_loaded(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gfpgan_core.cli.restore.load_restorer", None)
    path = photo(tmp_path / "a.png")
    (tmp_path / "out").write_text("a file")
    assert cli(path, "--output", tmp_path / "out") == 1
    assert "results can't be written to" in cli.err and "--output" in cli.err
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "faces").write_text("a file")
    assert cli(path, "--output", tmp_path / "good", "--save-faces") == 1
    assert "faces: Not a directory" in cli.err


def test_names_are_shown_without_what_a_terminal_obeys(cli: Cli, tmp_path: Path) -> None:
    names = (
        "a\x1b]0;owned\x07.png",
        "b\r\n34 restored.png",
        "c\u202egnp.exe",
        "d\x9b31m",
        "e\u2028",
    )
    album = tmp_path / "album"
    for name in names:
        photo(album / name, format="PNG")
    (album / "f\x1b[2J.jpg").write_text("no photo")
    assert cli(album, "--output", tmp_path / "out\x1b[0m") == 1
    assert cli.closing == "5 restored, 1 failed, 0 passed over"
    for line in (cli.out + cli.err).splitlines():
        assert line.isprintable()
    assert len(cli.out.splitlines()) == 6 and len(cli.err.splitlines()) == 1
    assert "a\\x1b]0;owned\\x07.png" in cli.out
    with pytest.raises(SystemExit):
        cli("x.jpg", "--\x1b[31m")
    cli.read()
    assert cli.err and "\x1b" not in cli.err


def test_families_accents_and_other_scripts_are_shown_as_they_are() -> None:
    for name in ("👨\u200d👩\u200d👧.jpg", "Zoë.png", "क्\u200dष.webp", "abc def.jpg", "日本.tif"):
        assert printable(name) == name
    assert printable(os.fsdecode(b"caf\xe9")) == "caf\\xe9"


def test_a_name_that_the_terminal_can_not_encode_ends_nothing() -> None:
    for encoding in ("ascii", "latin-1", "utf-8"):
        buffer = io.BytesIO()
        terminal = io.TextIOWrapper(buffer, encoding=encoding, errors="strict")
        stream = Stream(terminal)
        stream.write("Zoë 日本 \udce9\n")
        stream.flush()
        assert buffer.getvalue().endswith(b" \\udce9\n")


def test_a_file_that_appears_while_a_result_is_written_is_not_replaced(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was free when it was chosen."""
    path, foreign = photo(tmp_path / "a.png", 1), photo(tmp_path / "foreign.png", 2)
    add_entries = record.add_entries

    def another_process_comes_between(folder: Path, entries: list[Entry]) -> None:
        shutil.copy(foreign, folder / "a.png")
        add_entries(folder, entries)

    monkeypatch.setattr(results, "add_entries", another_process_comes_between)
    assert cli(path, "--output", tmp_path / "out") == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == foreign.read_bytes()
    assert (images.read_rgb(tmp_path / "out" / "a_2.png") == images.read_rgb(path)).all()


def test_a_file_system_without_hard_links_gets_its_results(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FAT on a camera's card."""

    def link(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    path = photo(tmp_path / "a.png", 1)
    neighbor = photo(tmp_path / "out" / "a.png", 2)
    before = neighbor.read_bytes()
    assert cli(path, "--output", tmp_path / "out") == 0
    assert neighbor.read_bytes() == before
    assert visible(tmp_path / "out") == ["a.png", "a_2.png"]


def test_what_killed_runs_left_is_removed_and_what_others_write_stays(
    cli: Cli, tmp_path: Path
) -> None:
    path = photo(tmp_path / "a.png", 1)
    old, new = (tmp_path / "out" / f".0000000{number}-89abcdef.partial" for number in (1, 2))
    foreign = tmp_path / "out" / ".download.partial"
    old.parent.mkdir()
    for partial in (old, new, foreign):
        partial.write_bytes(b"half")
    for partial in (old, foreign):
        os.utime(partial, (time.time() - 3600,) * 2)
    assert cli(path, "--output", tmp_path / "out") == 0
    assert not old.exists() and new.exists() and foreign.exists()


def test_a_defect_of_ours_costs_one_photo(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate("abc"):
        photo(tmp_path / "album" / f"{name}.png", number)
    encode = images.encode
    calls = iter(range(99))

    def encode_twice(*arguments: object) -> bytes:
        if next(calls) == 1:
            raise ZeroDivisionError("division\x1b by zero")
        return encode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "encode", encode_twice)
    assert cli(tmp_path / "album", "--output", tmp_path / "out") == 1
    assert "b.png: FAILED: ZeroDivisionError: division\\x1b by zero (a defect" in cli.err
    assert cli.closing == "2 restored, 1 failed, 0 passed over"


@pytest.mark.parametrize("device", ["meta", "cpu:x", "tpu", ""])
def test_a_device_that_computes_nothing_is_refused(device: str) -> None:
    with pytest.raises(InputError, match=r"can't be used .*try cpu"):
        checked_device(device)
