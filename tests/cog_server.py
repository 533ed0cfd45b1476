"""A real Cog server process for tests, and what is sent to it."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import torch
from conftest import HANG_S, ROOT, TINY, random_network
from PIL import Image

from gfpgan_core import images
from gfpgan_core.images import ImageU8
from scripts.serve import command
from scripts.serve import environment as serve_environment

# Options of the command line, paths of the server, its code.
LEAKS = re.compile(r" --\w|/tmp|/src|\w\.pth|Traceback|\w+\.py\b")


# `torch.distributed` writes a module there when it is imported, until the process ends.
_KEPT = ("lock", "_remote_module_non_scriptable")


class Server:
    """A Cog server over a copy of the predictor, with a temporary folder of its own."""

    def __init__(
        self,
        folder: Path,
        stub: str,
        environment: dict[str, str] | None = None,
        mode: str = "predict",
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.log = folder / "server.log"
        self.process = subprocess.Popen(
            command(mode),
            cwd=folder,
            env=serve_environment(self.port, mode)
            | (environment or {})
            | {
                f"COG_{mode.upper()}_TYPE_STUB": stub,
                "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
                "CUDA_VISIBLE_DEVICES": "",
                "TMPDIR": str(self.temporary),
            },
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=HANG_S)
        self.health = self._wait()

    def _wait(self) -> dict[str, Any]:
        """The answer of /health-check once the server is ready, or has failed to be."""
        deadline = time.monotonic() + HANG_S
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                health: dict[str, Any] = self.client.get("/health-check").json()
                if health["status"] not in ("STARTING", "UNKNOWN"):
                    return health
            time.sleep(0.1)
        raise AssertionError("the server doesn't start:\n" + self.log.read_text())

    def ready(self) -> Server:
        """Itself, when it is ready.

        Raises:
            AssertionError: it isn't; with its log.
        """
        assert self.health["status"] == "READY", self.log.read_text()
        return self

    def post(self, path: str, inputs: dict[str, Any]) -> httpx.Response:
        """The answer, after the slot is free: Cog frees it a moment after the answer before."""
        deadline = time.monotonic() + HANG_S
        while True:
            response = self.client.post(path, json={"input": inputs})
            if response.status_code != 409 or time.monotonic() > deadline:
                return response
            time.sleep(0.02)

    def predict(
        self, img: bytes | str, media_type: str = "image/png", **inputs: object
    ) -> httpx.Response:
        """The answer for a photo's bytes, or for what stands in the photo's place."""
        sent = img if isinstance(img, str) else data_url(img, media_type)
        values = {"img": sent, "version": "compact", "background_upsampler": "none"} | inputs
        return self.post("/predictions", values)

    def start(self, path: str, inputs: dict[str, Any]) -> None:
        """Start one under a name of its own, such as /predictions/name, without waiting."""
        deadline = time.monotonic() + HANG_S
        while True:
            response = self.client.put(
                path, json={"input": inputs}, headers={"Prefer": "respond-async"}
            )
            if response.status_code != 409 or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        assert response.status_code == 202, response.text

    def wait_until_free(self) -> None:
        """Wait until the slot of the last prediction is free."""
        deadline = time.monotonic() + HANG_S
        while self.client.get("/health-check").json()["status"] == "BUSY":
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def send_and_keep(self, path: str, inputs: dict[str, Any]) -> socket.socket:
        """The open connection over which a request was sent, the answer not waited for."""
        body = json.dumps({"input": inputs}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: server\r\nContent-Type: application/json\r\n"
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return connection

    def wait_for_log(self, text: str, start: int = 0) -> None:
        """Wait until a text stands in the log behind a position."""
        deadline = time.monotonic() + HANG_S
        while text not in self.log.read_text()[start:]:
            assert time.monotonic() < deadline and self.process.poll() is None, text
            time.sleep(0.05)

    def files(self) -> list[str]:
        """What lies in its temporary folder, but for our folder's lock and torch's own module."""
        found = (path for path in self.temporary.rglob("*") if path.is_file())
        return sorted(path.name for path in found if path.name.partition(".")[0] not in _KEPT)

    def worker(self) -> int:
        """The id of the process that runs the predictions."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                fields = status.read_text().rpartition(")")[2].split()
                if int(fields[1]) == self.process.pid:
                    return int(status.parent.name)
        raise AssertionError("the server has no worker")

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=HANG_S)
        except subprocess.TimeoutExpired:
            self.process.kill()


def app_folder(folder: Path) -> Path:
    """A folder as `cog build` leaves it in the image: predictor and input schema."""
    shutil.copy(ROOT / "predict.py", folder)
    shutil.copy(ROOT / "tests" / "serving" / "predict_with_test_releases.py", folder)
    script = [sys.executable, "-m", "scripts.write_openapi_schema", str(folder)]
    subprocess.run(script, cwd=ROOT, check=True)
    return folder


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def http_host(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a local HTTP server, whose requests `handler` answers."""
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=host.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{host.server_port}"
    finally:
        host.shutdown()
        host.server_close()


@contextlib.contextmanager
def file_host(folder: Path, handler: type[_QuietHandler] = _QuietHandler) -> Iterator[str]:
    """The address of a local HTTP server of a folder's files."""
    with http_host(functools.partial(handler, directory=str(folder))) as address:
        yield address


@contextlib.contextmanager
def random_releases(folder: Path) -> Iterator[dict[str, Any]]:
    """What `TEST_RELEASES` holds: v1.3 and v1.4 as small random networks, behind `file_host`."""
    table = {}
    with file_host(folder) as address:
        for seed, version in enumerate(("v1.3", "v1.4")):
            path = folder / f"GFPGAN{version}.pth"
            # `residual` can't be read off an official file: the table says it, as for a release.
            torch.save({"params_ema": random_network(seed).state_dict()}, path)
            file = {
                "name": path.name,
                "url": f"{address}/{path.name}",
                "bytes": path.stat().st_size,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "license": "none",
            }
            config = dataclasses.asdict(dataclasses.replace(TINY, residual=True))
            table[version] = {"file": file, "config": config}
        yield table


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def encoded(pixels: ImageU8, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def output(response: httpx.Response) -> tuple[images.Photo, dict[str, Any], bytes]:
    """The photo that came back, the metrics, and the photo's bytes."""
    body = response.json()
    assert response.status_code == 200 and body["status"] == "succeeded", body
    data = base64.b64decode(body["output"].split(",", 1)[1])
    return images.decode(data), body["metrics"], data


def error_of(response: httpx.Response) -> str:
    """The text of a refusal, as the client reads it."""
    body = response.json()
    assert body.get("status", "failed") == "failed", body
    return str(body.get("error") or body.get("detail"))


def run_example(server: Server, *arguments: object) -> subprocess.Popen[str]:
    """The example client, started over this server with `compact`."""
    address = f"http://127.0.0.1:{server.port}"
    command = [sys.executable, str(ROOT / "examples" / "http_client.py"), "--server", address]
    command += [*map(str, arguments), "version=compact"]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
