"""Weights by URL: fetched whole, out of their tar, or refused with the reason."""

from __future__ import annotations

import hashlib
import http.server
import io
import logging
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from cog_server import Server, app_folder, encoded, output
from conftest import PORTRAIT

from gfpgan_core.errors import WeightsError
from gfpgan_core.images import ImageU8
from gfpgan_core.weights import hosted

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Host:
    """A local HTTP host with an answer for each path, which counts what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                answers = outer.answers.get(self.path.partition("?")[0], [_status(404)])
                (answers.pop(0) if len(answers) > 1 else answers[0])(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, path: str, *answers: Answer) -> str:
        """The address of a path; each request gets the next answer, the last one for ever."""
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server.server_port}{path}"


def _status(code: int) -> Answer:
    return lambda handler: handler.send_error(code)


def _whole(data: bytes) -> Answer:
    return _cut(data, len(data))


def _cut(data: bytes, sent: int) -> Answer:
    """All of the announced length, or less."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:sent])

    return answer


def _unannounced(data: bytes) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(data)

    return answer


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(hosted, "WAIT_S", 0)
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


def _tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.type = len(data), kind
            if kind == tarfile.SYMTYPE:
                info.linkname, info.size = "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_a_file_comes_whole_and_its_sha256_is_logged(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = bytes(range(256)) * 999
    url = host.serve("/a/w.safetensors", _whole(data))
    with caplog.at_level(logging.INFO):
        path = hosted.fetch(f"{url}?signature=secret", tmp_path)
    assert path.read_bytes() == data
    assert hashlib.sha256(data).hexdigest() in caplog.text and "/a/w.safetensors" in caplog.text
    assert "secret" not in caplog.text and host.asked == ["/a/w.safetensors?signature=secret"]


def test_what_breaks_off_is_asked_for_again_and_a_clear_no_is_not(
    host: Host, tmp_path: Path
) -> None:
    data = bytes(5000)
    url = host.serve("/w", _cut(data, 700), _status(503), _whole(data))
    assert hosted.fetch(url, tmp_path).read_bytes() == data
    assert len(host.asked) == 3
    with pytest.raises(WeightsError, match=r"host answers 404"):
        hosted.fetch(host.serve("/gone?token=secret", _status(404)), tmp_path)
    assert len(host.asked) == 4
    with pytest.raises(WeightsError, match=r"/half .*3 of 3 attempts") as cut:
        hosted.fetch(host.serve("/half", _cut(data, 10)) + "?token=secret", tmp_path)
    assert "secret" not in str(cut.value) and len(host.asked) == 7


@pytest.mark.parametrize("answer", [_whole(bytes(2001)), _unannounced(bytes(2001)), _whole(b"")])
def test_too_large_and_empty_files_are_refused(host: Host, tmp_path: Path, answer: Answer) -> None:
    with pytest.raises(WeightsError, match=r"allowed|empty"):
        hosted.fetch(host.serve("/w", answer), tmp_path, max_bytes=2000)
    assert list(tmp_path.iterdir()) == []


def test_the_one_weight_file_of_a_tar_is_taken_whatever_its_name(
    host: Host, tmp_path: Path, tiny_weights: Path
) -> None:
    data = tiny_weights.read_bytes()
    packed = _tar(("./readme.txt", b"hello"), ("../" * 40 + "x" * 300, data), ("._x", b"\0" * 99))
    path = hosted.fetch(host.serve("/w.tar", _whole(packed)), tmp_path)
    assert path.read_bytes() == data and path.parent == tmp_path
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def _long_header(size: int) -> bytes:
    """A tar whose first member's name alone has `size` bytes."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(2048)


def _negative_size() -> bytes:
    header = bytearray(tarfile.TarInfo("w").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"  # -256 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


_WEIGHTS = b"PK\x03\x04" + bytes(2000)


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        (_tar(("w.pth", b""), kind=tarfile.SYMTYPE), "no plain file"),
        (_tar(("w.pth", b""), kind=tarfile.CHRTYPE), "no plain file"),
        (_tar(("a.pth", _WEIGHTS), ("b.pth", _WEIGHTS)), "holds 2 weight files"),
        (_tar(("readme.txt", b"hello")), "holds 0 weight files"),
        (_tar(("w.pth", _WEIGHTS))[:1500], "cut off"),
        (_long_header(2**30), "no plain file"),
        (_negative_size(), "cut off"),
    ],
)
def test_tars_with_links_and_tricks_are_refused(
    host: Host, tmp_path: Path, packed: bytes, text: str
) -> None:
    with pytest.raises(WeightsError, match=text):
        hosted.fetch(host.serve("/w.tar", _whole(packed)), tmp_path)


def _restored(weights: Path) -> ImageU8:
    from gfpgan_core import FaceRestorer, RestoreOptions

    restorer = FaceRestorer.from_file(weights, device="cpu", detector="centerface")
    return restorer.restore(PORTRAIT, RestoreOptions(scale=1)).image


def test_a_server_serves_weights_by_url_or_says_why_it_does_not_start(
    host: Host, tiny_weights: Path, tmp_path: Path, portrait: ImageU8
) -> None:
    """Three real servers: a tar, a missing file, another network's weights."""
    data = tiny_weights.read_bytes()
    other = io.BytesIO()
    torch.save({"params_ema": {"conv_first.weight": torch.zeros(64, 3, 3, 3)}}, other)
    urls = {
        "tar": host.serve("/w.tar", _whole(_tar(("out/weights.safetensors", data)))),
        "missing": host.serve("/gone", _status(404)),
        "other": host.serve("/esrgan.pth", _whole(other.getvalue())),
    }

    def started(name: str) -> Server:
        folder = tmp_path / name
        folder.mkdir()
        environment = {"COG_WEIGHTS": f"{urls[name]}?signature=secret"}
        return Server(app_folder(folder), "predict.py:Predictor", environment)

    with ThreadPoolExecutor() as pool:  # they start at the same time
        servers = dict(zip(urls, pool.map(started, urls), strict=True))
    texts = {"missing": "host answers 404", "other": "no GFPGAN generator"}
    for name, server in servers.items():
        log = server.log.read_text()
        assert "secret" not in log
        assert server.health["status"] == ("READY" if name == "tar" else "SETUP_FAILED"), log
        assert texts.get(name, "") in log
    photo = output(servers["tar"].predict(encoded(portrait), version="v1.4", scale=1))[0]
    for server in servers.values():
        server.stop()
        assert server.files() == []
    assert np.abs(photo.rgb - _restored(tiny_weights).astype(int)).max() <= 1
