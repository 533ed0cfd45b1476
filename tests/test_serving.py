"""The folder of a server's requests: what comes in, what stays, what goes."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import HANG_S

from gfpgan_core import bounds
from gfpgan_core.client_errors import errors_for_clients
from gfpgan_core.errors import CropFailedError, InputError, WeightsError
from gfpgan_core.serving import RequestFiles


def _files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.name != "lock")


class _Fetched(NamedTuple):
    """What Cog makes of an address, with an open download in place of the network's."""

    fileobj: io.RawIOBase | io.BytesIO


def _receive(
    files: RequestFiles, source: io.RawIOBase | io.BytesIO, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """As Cog does it: by the method that it calls for an input."""
    import cog

    with monkeypatch.context() as patch:
        patch.setattr(cog.Path, "validate", lambda _: _Fetched(source))
        files.start()
        return Path(cog.Path.validate("http://host/name"))


class _Breaking(io.RawIOBase):
    """A download that breaks off."""

    def __init__(self, start: bytes) -> None:
        self._start = start

    def read(self, size: int = -1) -> bytes:
        if not self._start:
            raise OSError("connection reset by 10.0.0.7")
        data, self._start = self._start[:size], self._start[size:]
        return data


def test_a_download_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RequestFiles(max_bytes=1000, parent=tmp_path)
    assert _receive(files, io.BytesIO(bytes(1000)), monkeypatch).read_bytes() == bytes(1000)
    with files.request():
        pass  # which removes it
    with pytest.raises(InputError, match="more than the allowed"):
        _receive(files, io.BytesIO(bytes(1001)), monkeypatch)
    with pytest.raises(InputError, match="can't be fetched") as refused:
        _receive(files, _Breaking(bytes(500)), monkeypatch)
    assert "10.0.0.7" not in str(refused.value)
    assert _files(tmp_path) == []


def test_a_request_finds_its_inputs_only_and_leaves_its_result_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RequestFiles(1000, tmp_path)
    abandoned = _receive(files, io.BytesIO(b"of a canceled request"), monkeypatch)
    given = _receive(files, io.BytesIO(b"photo"), monkeypatch)
    with files.request(given, None, "a string"):
        assert given.exists() and not abandoned.exists()
        made = files.work_folder() / "picture.png"
        made.write_bytes(b"result")
        (made.parent / "other").write_bytes(b"x")
        result = files.publish(made, "restored")
    assert _files(tmp_path) == [result.name] and result.read_bytes() == b"result"
    assert result.name == f"restored-{hashlib.sha256(b'result').hexdigest()[:20]}.png"

    with pytest.raises(KeyboardInterrupt), files.request():
        made = files.work_folder() / "picture.png"
        made.write_bytes(b"half")
        files.publish(made, "restored")
        raise KeyboardInterrupt  # as a cancellation, no `Exception`
    assert _files(tmp_path) == []


def test_errors_name_files_without_the_servers_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RequestFiles(1000, tmp_path)
    with pytest.raises(InputError) as refused, files.request():
        target = files.work_folder() / "restored.png"
        raise InputError(f"{target} can't be written: No space left on device")
    assert str(refused.value) == "restored.png can't be written: No space left on device"


def test_the_next_download_removes_the_last_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RequestFiles(1000, tmp_path)
    with files.request():
        made = files.work_folder() / "picture.png"
        made.write_bytes(b"result")
        result = files.publish(made, "restored")
    received = _receive(files, io.BytesIO(b"next"), monkeypatch)
    assert not result.exists() and received.exists()


def test_a_last_result_goes_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = RequestFiles(1000, tmp_path, kept_s=0.01)
    _receive(files, io.BytesIO(b"photo"), monkeypatch)
    with files.request():
        made = files.work_folder() / "picture.png"
        made.write_bytes(b"result")
        files.publish(made, "restored")
    deadline = time.monotonic() + HANG_S
    while _files(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


class _Slow(io.RawIOBase):
    """A download that goes on until it is told to end."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()

    def read(self, size: int = -1) -> bytes:
        self.begun.set()
        self.may_end.wait(HANG_S)
        return b""


def test_nothing_goes_while_another_input_is_still_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RequestFiles(1000, tmp_path)
    first = _receive(files, io.BytesIO(b"first of two inputs"), monkeypatch)
    slow = _Slow()
    thread = threading.Thread(target=_receive, args=(files, slow, monkeypatch))
    thread.start()
    assert slow.begun.wait(HANG_S)
    files.remove_if_idle()
    kept = first.exists()
    slow.may_end.set()
    thread.join(HANG_S)
    files.remove_if_idle()
    assert kept and _files(tmp_path) == []


def test_folders_of_dead_processes_go_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living = RequestFiles(1000, tmp_path)
    alive = living.folder
    dead = tmp_path / "gfpgan-requests-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "photo").touch()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "lock").touch()
    (tmp_path / "gfpgan-requests-link").symlink_to(precious)
    assert RequestFiles(1000, tmp_path).folder.is_dir()
    assert alive.is_dir() and not dead.exists() and (precious / "lock").exists()


def test_a_folder_that_the_system_cleaned_away_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RequestFiles(1000, tmp_path)
    (files.folder / "lock").unlink()
    files.folder.rmdir()
    assert files.is_usable() and files.folder.stat().st_mode & 0o777 == 0o700


def test_only_plain_files_that_were_fetched_are_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = RequestFiles(1000, tmp_path)
    received = _receive(files, io.BytesIO(bytes(100)), monkeypatch)
    assert files.received(received, "img", 100) == received
    with pytest.raises(InputError, match="img has 0 MiB"):
        files.received(received, "img", 99)
    outside = tmp_path / "outside"
    outside.touch()
    link, pipe = files.folder / "link", files.folder / "pipe"
    link.symlink_to(outside)
    os.mkfifo(pipe)
    texts = set()
    for value in (str(received), outside, link, pipe, files.folder, files.folder / ".." / "x"):
        with pytest.raises(InputError) as refused:
            files.received(value, "img", 1000)
        texts.add(str(refused.value))
    assert len(texts) == 1 and "paths are not read" in texts.pop()
    for value in ("", "  ", "\n"):
        with pytest.raises(InputError, match=r"^img is empty: give the address"):
            files.received(value, "img", 1000)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InputError("scale is 9"), "scale is 9"),
        (
            WeightsError("/secret/x.pth: try --version compact"),
            "that the request needs: try compact",
        ),
        (CropFailedError("try --device cpu"), "no usable result for a face"),
        (MemoryError(), "more memory than this server has"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."), "more memory"),
        (OSError(28, "No space left on device", "/secret"), "its disk may be full"),
        (KeyError("/secret"), "unexpected error"),
    ],
)
def test_clients_get_texts_that_name_no_path_and_no_option(error: Exception, text: str) -> None:
    with pytest.raises((InputError, RuntimeError)) as seen, errors_for_clients("try compact"):
        raise error
    assert text in str(seen.value)
    assert "secret" not in str(seen.value) and "--" not in str(seen.value)


def test_bounds_fit_what_the_project_itself_allows() -> None:
    from gfpgan_core.weights.releases import all_files

    assert all((file.bytes or 0) < bounds.MAX_WEIGHTS_BYTES for file in all_files())


def test_a_request_starts_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation that meets a thread's start would hang the server: seen in a soak run."""
    import cog

    monkeypatch.setattr(cog.Path, "validate", cog.Path.validate)  # put back afterwards
    files = RequestFiles(1000, tmp_path)
    files.start()

    def refuse(_: threading.Thread) -> None:
        raise AssertionError("a thread is started")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    received = cog.Path.validate("data:image/png;base64,AAAA")
    # A path already: for this Cog starts no download of its own, in a thread.
    assert type(received) is cog.Path and received.read_bytes() == bytes(3)
    with files.request(received):
        made = files.work_folder() / "picture.png"
        made.write_bytes(b"result")
        files.publish(made, "restored")
    assert cog.Path.validate("predict.py") == cog.Path("predict.py")


def test_a_canceled_download_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Canceled(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise KeyboardInterrupt  # no `Exception`, as Cog's

    with pytest.raises(KeyboardInterrupt):
        _receive(RequestFiles(1000, tmp_path), Canceled(), monkeypatch)
    assert _files(tmp_path) == []
