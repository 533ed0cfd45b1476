"""What the tests of docs/http_api.md need: its blocks, a webhook's receiver, Replicate's API."""

from __future__ import annotations

import contextlib
import http.server
import json
import queue
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pages
from cog_server import http_host
from conftest import HANG_S


def blocks(heading: str, kind: str = "sh") -> list[str]:
    """Return the section's blocks of code, in their order."""
    return pages.blocks("http_api.md", heading, kind)


def run(script: str, folder: Path, changes: dict[str, str]) -> str:
    """Return what a block prints, run in `folder`; each text that `changes` names is in it."""
    for old, new in changes.items():
        assert old in script, old
        script = script.replace(old, new)
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


class _Handler(http.server.BaseHTTPRequestHandler):
    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def webhook() -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    """The address of a receiver, and what comes to it."""
    received: queue.Queue[dict[str, Any]] = queue.Queue()

    class Receiver(_Handler):
        def do_POST(self) -> None:
            received.put(self.body())
            self.answer({})

    with http_host(Receiver) as address:
        yield address, received


@contextlib.contextmanager
def replicate_api(cog: str) -> Iterator[str]:
    """The address of what Replicate's client asks, over a Cog server of our own."""

    class Api(_Handler):
        def do_GET(self) -> None:  # /v1/models/owner/name/versions/VERSION
            schema = httpx.get(f"{cog}/openapi.json").json()
            made = {"created_at": "2026-01-01T00:00:00Z", "cog_version": "0.23.1"}
            self.answer({"id": self.path.rpartition("/")[2], "openapi_schema": schema} | made)

        def do_POST(self) -> None:  # /v1/predictions
            body = self.body()
            answer = httpx.post(
                f"{cog}/predictions", json={"input": body["input"]}, timeout=HANG_S
            ).json()
            more = {"model": "owner/name", "version": body["version"], "input": {}, "urls": {}}
            self.answer(answer | more)

    with http_host(Api) as address:
        yield address
