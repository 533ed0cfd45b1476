"""Download the weights of a hosted fine-tune, a file or a tar, from a URL."""

from __future__ import annotations

import hashlib
import logging
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit, urlunsplit

import requests

from gfpgan_core.bounds import MAX_WEIGHTS_BYTES
from gfpgan_core.errors import WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.load import load_file

_ATTEMPTS = 3
WAIT_S = 1.0  # before the second attempt; twice as long before the third
_TIMEOUT_S = (10, 30)  # to connect, and without a byte; not for the whole file
_CHUNK_BYTES = 2**20
_BLOCK_BYTES = tarfile.BLOCKSIZE

# No tar of weights has longer names and comments; they could exhaust the reader's memory.
_MAX_EXTRA_BYTES = 64 * 2**10
_EXTRAS = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.SOLARIS_XHDTYPE)

_logger = logging.getLogger(__name__)


def load_trained(weights: str, device: str) -> GFPGAN:
    """Return the network of a training's weights: a path, or an http(s) address of them.

    Raises:
        WeightsError: not to be had, damaged, or those of another network.
    """
    if not weights.lower().startswith(("http://", "https://")):
        return load_file(Path(weights), device)
    with tempfile.TemporaryDirectory(prefix="gfpgan-weights-") as folder:
        return load_file(fetch(weights, Path(folder)), device)


def fetch(url: str, folder: Path, max_bytes: int = MAX_WEIGHTS_BYTES) -> Path:
    """Download weights to `folder`, out of their tar if they come in one.

    The size is bounded and compared with what the host announces; the sha256 goes to the log,
    where it can be compared with the training's. A broken connection is tried again.

    Raises:
        WeightsError: not to be had, cut off, too large, or a tar without exactly one weight file.
            The text names the address without its query, which may hold a signature.
    """
    path = folder / "weights"
    named = _without_secrets(url)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            size, sha256 = _download(url, path, max_bytes)
            break
        except requests.RequestException as error:
            path.unlink(missing_ok=True)
            if attempt == _ATTEMPTS or not _may_pass(error):
                raise WeightsError(
                    f"the weights at {named} can't be fetched ({attempt} of {_ATTEMPTS} attempts):"
                    f" {_reason(error)}"
                ) from None
            time.sleep(WAIT_S * attempt)
        except _RefusedError as error:
            path.unlink(missing_ok=True)
            raise WeightsError(f"the weights at {named} are refused: {error}") from None
    _logger.info("weights from %s: %d bytes, sha256 %s", named, size, sha256)
    return _out_of_tar(path, named) if _is_tar(path) else path


class _RefusedError(Exception):
    """The host's answer isn't what it must be."""


def _download(url: str, path: Path, max_bytes: int) -> tuple[int, str]:
    """Write the file; return its size and sha256."""
    digest = hashlib.sha256()
    size = 0
    with requests.get(url, stream=True, timeout=_TIMEOUT_S) as response, path.open("wb") as file:
        response.raise_for_status()
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > max_bytes:
            raise _RefusedError(f"{int(announced):,} bytes; allowed are {max_bytes:,}")
        for chunk in response.iter_content(_CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise _RefusedError(f"more than the allowed {max_bytes:,} bytes")
            digest.update(chunk)
            file.write(chunk)
        encoded = "Content-Encoding" in response.headers  # then the length is the encoded one's
        if announced.isdecimal() and not encoded and size != int(announced):
            raise requests.ConnectionError(f"cut off after {size:,} of {announced} bytes")
    if size == 0:
        raise _RefusedError("the file is empty")
    return size, digest.hexdigest()


def _may_pass(error: requests.RequestException) -> bool:
    """Return whether another attempt may succeed: not after a refusal by the host."""
    response = error.response
    return response is None or response.status_code >= 500 or response.status_code == 429


def _reason(error: requests.RequestException) -> str:
    """Return what went wrong, without the address, which requests repeats with its query."""
    if error.response is not None:
        return f"the host answers {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "the host doesn't answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.ConnectionError):
        text = str(error)
        return text if text.startswith("cut off") else "the host can't be reached"
    return type(error).__name__


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _is_tar(path: Path) -> bool:
    """Return whether the file starts with a tar's header, told by its checksum."""
    with path.open("rb") as file:
        return _header(file) is not None


def _header(file: IO[bytes]) -> tarfile.TarInfo | None:
    """Return the member that starts here; None at the archive's end, or if it is no header."""
    try:
        return tarfile.TarInfo.frombuf(file.read(_BLOCK_BYTES), "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return None


def _out_of_tar(archive: Path, named: str) -> Path:
    """Write the one weight file of a tar beside it, and remove the tar.

    No name of the archive is used for a path, and only plain files are read.

    Raises:
        WeightsError: it holds a link or device, is cut off, or hasn't exactly one weight file.
    """
    found: list[tuple[int, int, str]] = []
    with archive.open("rb") as file:
        end = archive.stat().st_size
        while (member := _header(file)) is not None:
            start = file.tell()
            is_extra = member.type in _EXTRAS and member.size <= _MAX_EXTRA_BYTES
            if not (member.isreg() or member.isdir() or is_extra):
                raise WeightsError(
                    f"the tar at {named} holds {member.name[:100]!r}, which is no plain file: pack"
                    " the weight file alone"
                )
            size = 0 if member.isdir() else member.size
            if size < 0 or start + size > end:
                raise WeightsError(f"the tar at {named} is cut off: fetch or pack it anew")
            if member.isreg() and _looks_like_weights(file.read(16)):
                found.append((start, size, member.name))
            file.seek(start + -(-size // _BLOCK_BYTES) * _BLOCK_BYTES)
        if len(found) != 1:
            names = ", ".join(repr(name[:100]) for _, _, name in found[:5]) or "none"
            raise WeightsError(
                f"the tar at {named} holds {len(found)} weight files ({names}); exactly one is"
                " needed"
            )
        start, size, _ = found[0]
        file.seek(start)
        target = archive.with_name("weights-out-of-tar")
        _copy(file.read, target, size)
    archive.unlink()
    return target


def _looks_like_weights(start: bytes) -> bool:
    """Return whether a file starts as safetensors or torch's files do, new (zip) or old."""
    return start[8:9] == b"{" or start.startswith((b"PK\x03\x04", b"\x80\x02"))


def _copy(read: Callable[[int], bytes], target: Path, size: int) -> None:
    with target.open("wb") as file:
        while size and (chunk := read(min(size, _CHUNK_BYTES))):
            file.write(chunk)
            size -= len(chunk)
