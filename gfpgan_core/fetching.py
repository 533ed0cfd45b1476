"""Read what a client's address leads to: so many bytes, and for a limited time in all."""

from __future__ import annotations

import io
import logging
import os
import socket
import time
from typing import IO, Any, Protocol, cast

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from gfpgan_core.errors import InputError

_CHUNK_BYTES = 2**20
SILENCE_S = 10.0  # to connect, and between two bytes; as in Cog's own download
_NOT_FETCHED = (
    "a file can't be fetched from the address given: check that the link is complete, opens"
    " without signing in, answers within 10 seconds, and isn't slow"
)

_logger = logging.getLogger(__name__)


def open_address(url: str, seconds: float) -> IO[bytes]:
    """Return the content of an http(s) address, to be read within so many seconds from now.

    The time that `requests` takes is one of silence: a host that sends a byte now and then, or
    header after header, would hold its reader for ever. Credentials are the address's own; none
    are taken from this user's `.netrc`, which are not meant for whoever names an address.

    Raises:
        requests.RequestException: it can't be had. Reading raises `OSError` or urllib3's errors.
    """
    user, password = get_auth_from_url(url)
    session = _Session()
    session.hooks["response"].append(_without_redirects_body)
    adapter = _TimedAdapter(time.monotonic() + seconds)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    agent = os.environ.get("COG_USER_AGENT")
    response = session.get(
        url,
        stream=True,
        timeout=SILENCE_S,
        headers={"User-Agent": agent} if agent else {},
        auth=(user, password) if user or password else lambda request: request,
    )
    response.raise_for_status()
    response.raw.decode_content = True
    return cast(IO[bytes], response.raw)


def _without_redirects_body(response: requests.Response, **_: object) -> None:
    """Close a redirect's body, which `requests` would take into memory, however large it is."""
    if response.is_redirect:
        response.raw.close()


class _Session(requests.Session):
    """Follows redirects without looking for credentials."""

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        headers = prepared_request.headers
        if self.should_strip_auth(str(response.request.url), str(prepared_request.url)):
            headers.pop("Authorization", None)


class _TimedAdapter(HTTPAdapter):
    """Makes connections that can be read until a moment of the monotonic clock."""

    def __init__(self, ends_at: float) -> None:
        class Http(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                self.sock = cast(socket.socket, _TimedSocket(self.sock, ends_at))

        class Https(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                self.sock = cast(socket.socket, _TimedSocket(self.sock, ends_at))

        class HttpPool(HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(HTTPSConnectionPool):
            ConnectionCls = Https

        self._pools = {"http": HttpPool, "https": HttpsPool}
        super().__init__()

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self._pools
        return manager


class _TimedSocket:
    """A socket whose files can be read until a moment of the monotonic clock."""

    def __init__(self, connection: socket.socket, ends_at: float) -> None:
        self._connection, self._ends_at = connection, ends_at

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        """Return what answers are read from."""
        assert mode == "rb"
        return io.BufferedReader(_TimedReader(self._connection, self._ends_at))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _TimedReader(io.RawIOBase):
    def __init__(self, connection: socket.socket, ends_at: float) -> None:
        self._connection, self._ends_at = connection, ends_at
        self._raw = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("it takes too long in all")
        self._connection.settimeout(min(left, SILENCE_S))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class Readable(Protocol):
    """A file, as far as it is read."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes."""
        ...


class Incoming:
    """What Cog made of an address, opened when it is read; its failures have one text."""

    def __init__(self, found: Any, seconds: float) -> None:
        """Take Cog's `URLPath`, and the seconds that the download may take."""
        self._found, self._seconds = found, seconds
        self._file: IO[bytes] | None = None

    def read(self, size: int) -> bytes:
        """Return the next bytes, up to `size`; none at the end.

        Raises:
            InputError: they can't be had. The text doesn't say why not: it would tell a client
                what answers inside the server's network.
        """
        try:
            if self._file is None:
                self._file = self._open()
            return self._file.read(size)
        except Exception as error:
            _logger.warning("a download failed: %s", error)
            raise InputError(_NOT_FETCHED) from None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> IO[bytes]:
        address = str(getattr(self._found, "source", ""))
        if address.startswith(("http://", "https://")):
            return open_address(address, self._seconds)
        return self._found.fileobj  # type: ignore[no-any-return] # of a data: URL


def copy_bounded(source: Readable, target: IO[bytes], max_bytes: int) -> None:
    """Copy a stream to its end.

    Raises:
        InputError: it is longer than allowed.
    """
    left = max_bytes
    while chunk := source.read(min(_CHUNK_BYTES, left + 1)):
        left -= len(chunk)
        if left < 0:
            raise InputError(f"a file has more than the allowed {max_bytes / 2**20:.0f} MiB")
        target.write(chunk)
