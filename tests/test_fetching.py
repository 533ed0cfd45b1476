"""What a client's address leads to: hosts that never end, and credentials that aren't theirs."""

from __future__ import annotations

import base64
import http.server
import io
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import HANG_S

from gfpgan_core.errors import InputError
from gfpgan_core.fetching import Incoming, open_address
from gfpgan_core.serving import MAX_ARCHIVE_BYTES, MAX_PHOTO_BYTES, RequestFiles

_ENOUGH_S = 60.0


class _Found(NamedTuple):
    """What Cog makes of an address."""

    source: str
    fileobj: io.BytesIO = io.BytesIO()


class _Host(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path; `seen` keeps the credentials that came."""

    protocol_version = "HTTP/1.1"
    seen: list[str | None]
    bloat_bytes = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        self.close_connection = True
        kind = self.path.split("/")[1]
        try:
            if kind == "photo":
                self._answer("200 OK\r\nContent-Length: 5", b"photo")
            elif kind == "short":
                self._answer("200 OK\r\nContent-Length: 9", b"photo")
            elif kind == "moved":
                self._answer("302 Found\r\nLocation: /photo\r\nContent-Length: 0")
            elif kind == "file":
                self._answer("302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0")
            elif kind == "around":
                time.sleep(0.05)
                self._answer("302 Found\r\nLocation: /around\r\nContent-Length: 0")
            elif kind == "bloated":
                self._answer("302 Found\r\nLocation: /photo\r\nContent-Length: 1000000000")
                for _ in range(1000):
                    self.wfile.write(bytes(1_000_000))
                    type(self).bloat_bytes += 1_000_000
            elif kind == "drips":
                self._answer("200 OK\r\nContent-Length: 1000000")
                while True:
                    self._send(b"x")
            elif kind == "waits":
                while True:
                    self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            pass  # the reader has gone, as it should

    def _answer(self, head: str, body: bytes = b"") -> None:
        self.wfile.write(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode() + body)

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)
        time.sleep(0.02)


@pytest.fixture
def host() -> Iterator[str]:
    _Host.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Host)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_is_read_from_where_its_address_leads(host: str) -> None:
    assert open_address(f"{host}/photo", _ENOUGH_S).read(100) == b"photo"
    assert open_address(f"{host}/moved", _ENOUGH_S).read(100) == b"photo"


def test_the_body_of_a_redirect_is_not_read(host: str) -> None:
    assert open_address(f"{host}/bloated", _ENOUGH_S).read(100) == b"photo"
    assert _Host.bloat_bytes < 100_000_000  # what the sockets hold


@pytest.mark.parametrize("path", ["drips", "waits", "around"])
def test_a_host_that_never_ends_is_left_when_the_time_is_over(host: str, path: str) -> None:
    """A byte now and then, an answer that is still to come, a redirect to itself."""
    ends: list[str] = []

    def read() -> None:
        with pytest.raises(InputError) as refused:
            Incoming(_Found(f"{host}/{path}"), 0.5).read(1 << 20)
        ends.append(str(refused.value))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(HANG_S)
    assert len(ends) == 1 and "can't be fetched from the address" in ends[0]


@pytest.mark.parametrize("path", ["short", "file", "nothing"])
def test_what_breaks_off_or_leads_elsewhere_has_the_same_text(host: str, path: str) -> None:
    with pytest.raises(InputError, match="can't be fetched from the address") as refused:
        Incoming(_Found(f"{host}/{path}"), _ENOUGH_S).read(100)
    assert host not in str(refused.value) and "passwd" not in str(refused.value)


def test_the_servers_own_credentials_go_to_nobody(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests would take those of `.netrc` for whatever address a client names."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login operator password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    open_address(f"{host}/photo", _ENOUGH_S)
    open_address(f"{host}/moved", _ENOUGH_S)
    assert _Host.seen == [None] * 3
    open_address(f"{host.replace('//', '//me:mine@')}/moved", _ENOUGH_S)
    assert _Host.seen[3:] == ["Basic " + base64.b64encode(b"me:mine").decode()] * 2


@pytest.mark.parametrize("address", ["data:", "data:image/png;base64,AAA", "http://[::1"])
def test_an_address_that_is_none_is_refused_in_words_for_its_sender(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cog

    monkeypatch.setattr(cog.Path, "validate", cog.Path.validate)  # put back afterwards
    RequestFiles(1000, tmp_path).start()
    with pytest.raises(InputError, match="an address can't be read: give that of a file"):
        cog.Path.validate(address)


def test_a_full_disk_is_not_called_a_bad_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cog

    monkeypatch.setattr(cog.Path, "validate", cog.Path.validate)  # put back afterwards
    missing = tmp_path / "missing"  # no folder can be made there: as on a full or read-only disk
    RequestFiles(1000, missing).start()
    with pytest.raises(InputError, match="this server can't write its files") as refused:
        cog.Path.validate("data:image/png;base64,AAAA")
    assert str(tmp_path) not in str(refused.value)


def test_the_longest_download_takes_minutes_or_hours() -> None:
    photo, archive = (RequestFiles(size).fetch_s for size in (MAX_PHOTO_BYTES, MAX_ARCHIVE_BYTES))
    assert (photo, archive) == (316, 8252)  # 256 MiB and 8 GiB at 1 MiB a second, and a minute


def test_a_silent_host_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gfpgan_core.fetching.SILENCE_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/photo"
        with pytest.raises(InputError, match="can't be fetched"):
            Incoming(_Found(address), _ENOUGH_S).read(100)
