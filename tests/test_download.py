"""Downloads from a real local HTTP server that misbehaves, to disks and folders that do."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import HANG_S, ROOT
from faults import full_disk, need_permissions, obeying_permissions, run_code

from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.download import cache_folder, ensure_present, fetch
from gfpgan_core.weights.releases import WeightFile

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class FileServer:
    """Serves CONTENT; `answers` says how each request, in turn, is treated."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.requests = 0
        self.stalled = threading.Event()
        self.released = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                answer = outer.answers.pop(0) if outer.answers else "good"
                if answer == "missing":
                    self.send_error(404)
                    return
                body = CONTENT[::-1] if answer == "wrong" else CONTENT
                body = body[:1000] if answer == "short" else body
                body = b"<html>Sign in</html>" if answer == "page" else body
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # "dies": the connection breaks in the middle of the body; "stalls": nothing more
                # comes until the test ends
                self.wfile.write(body[: len(body) // 2] if answer in ("dies", "stalls") else body)
                if answer == "stalls":
                    self.wfile.flush()
                    outer.stalled.set()
                    outer.released.wait(HANG_S)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/model.pth"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def file(self) -> WeightFile:
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        return WeightFile("model.pth", self.url, len(CONTENT), sha256, "MIT")


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.released.set()
    server.server.shutdown()


# For a process of its own.
_FETCH = """
import sys
from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.download import fetch
from gfpgan_core.weights.releases import WeightFile
file = WeightFile("model.pth", sys.argv[1], int(sys.argv[2]), sys.argv[3], "MIT")
try:
    print(fetch(file, progress=False))
except WeightsError as error:
    sys.exit(str(error))
assert "torch" not in sys.modules  # a download needs none of it
"""


def _left_in_cache() -> list[str]:
    return sorted(p.name for p in cache_folder().iterdir() if not p.name.endswith(".lock"))


def test_a_good_file_is_fetched_once(server: FileServer) -> None:
    path = fetch(server.file, progress=False)
    assert path.read_bytes() == CONTENT
    assert fetch(server.file, progress=False) == path
    assert server.requests == 1
    assert _left_in_cache() == ["model.pth"]


@pytest.mark.parametrize("answer", ["short", "wrong", "dies", "missing"])
def test_a_bad_download_is_retried_then_refused_and_leaves_nothing(
    server: FileServer, answer: str
) -> None:
    server.answers = [answer] * 3
    with pytest.raises(WeightsError, match="3 attempts failed") as caught:
        fetch(server.file, progress=False)
    for part in ("model.pth", "1 MB", server.url, str(cache_folder()), "compact"):
        assert part in str(caught.value)
    assert server.requests == 3
    assert _left_in_cache() == []


def test_a_server_that_dies_midway_is_asked_again(server: FileServer) -> None:
    server.answers = ["dies", "good"]
    assert fetch(server.file, progress=False).read_bytes() == CONTENT
    assert server.requests == 2


def test_no_network_says_where_the_file_comes_from() -> None:
    file = WeightFile("model.pth", "http://127.0.0.1:9/model.pth", 5_000_000, "0" * 64, "MIT")
    with pytest.raises(WeightsError, match=r"5 MB.*127\.0\.0\.1:9/model.pth") as caught:
        fetch(file, progress=False)
    assert "--version compact" in str(caught.value)


def test_offline_forbids_the_download(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    with pytest.raises(WeightsError, match="GFPGAN_OFFLINE"):
        fetch(server.file)
    assert server.requests == 0
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pth").write_bytes(CONTENT)
    assert fetch(server.file).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "text"), [(CONTENT[:-1], "1,048,575 bytes"), (CONTENT[::-1], "has sha256")]
)
def test_a_file_put_in_place_by_hand_is_verified(
    server: FileServer, content: bytes, text: str
) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=text):
        fetch(server.file)


def test_two_processes_at_once_download_once(server: FileServer, tmp_path: Path) -> None:
    file = server.file
    command = [sys.executable, "-c", _FETCH, file.url, str(file.bytes), file.sha256]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    paths = {process.communicate(timeout=HANG_S)[0].strip() for process in processes}
    assert paths == {str(cache_folder() / "model.pth")}
    assert server.requests == 1


def test_a_kill_while_downloading_leaves_no_file_and_the_next_download_cleans_up(
    server: FileServer,
) -> None:
    file = server.file
    server.answers = ["stalls", "good"]
    command = [sys.executable, "-c", _FETCH, file.url, str(file.bytes), file.sha256]
    with subprocess.Popen(command, cwd=ROOT) as process:
        assert server.stalled.wait(HANG_S)
        process.kill()
    (left,) = _left_in_cache()
    assert left.endswith(".partial")
    assert fetch(file, progress=False).read_bytes() == CONTENT
    assert _left_in_cache() == ["model.pth"]


def test_a_full_disk_ends_the_download_at_once_and_leaves_nothing(server: FileServer) -> None:
    file = server.file
    result = run_code(_FETCH, file.url, file.bytes, file.sha256, before=full_disk(500_000))
    assert "The folder can't be used: [Errno 27] File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert server.requests == 1 and _left_in_cache() == []


def test_a_read_only_folder_is_named(server: FileServer, tmp_path: Path) -> None:
    need_permissions(tmp_path)
    cache_folder().mkdir(mode=0o555)
    file = server.file
    result = run_code(_FETCH, file.url, file.bytes, file.sha256, before=obeying_permissions)
    cache_folder().chmod(0o755)
    assert "The folder can't be used: [Errno 13] Permission denied" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(cache_folder().iterdir()) == []


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page, saved in place of the file"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1048576\n",
            r"a Git LFS pointer, which stands for a file of 1,048,576 bytes: run `git lfs pull`",
        ),
        (b"", "it is empty: its download failed"),
    ],
    ids=["web-page", "lfs-pointer", "empty"],
)
def test_what_lies_in_a_release_s_place_is_named_with_the_right_size_and_address(
    server: FileServer, content: bytes, text: str
) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pth").write_bytes(content)
    for find in (fetch, ensure_present):
        with pytest.raises(WeightsError, match=text) as caught:
            find(server.file)
        assert server.url in str(caught.value) and "model.pth has 1,048,576" in str(caught.value)


def test_a_server_that_sends_a_web_page_is_told_from_a_broken_line(server: FileServer) -> None:
    server.answers = ["page"] * 3
    with pytest.raises(WeightsError, match=r"what came has sha256 .* it is a web page"):
        fetch(server.file, progress=False)
