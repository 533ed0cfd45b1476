"""Read untrusted archives in bounded time and memory: zip, and tar with gzip, bzip2, xz.

Python's readers trust an archive's own figures: they hold a header of any length in memory,
unpack what they skip, and parse pax headers in quadratic time. Each is bounded here, by
`gfpgan_core.bounds`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

from gfpgan_core.bounds import (
    MAX_DIRECTORY_BYTES,
    MAX_EXPANSION,
    MAX_HEADER_BYTES,
    MAX_HEADER_DIGITS,
    MAX_HEADER_RECORDS,
    MAX_UNPACKED_BYTES,
    MIN_EXPANSION_BYTES,
)
from gfpgan_core.errors import InputError

_T = TypeVar("_T")

_CHUNK_BYTES = 2**18
_BLOCK_BYTES = 512

_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
# Archives that are not read, by their first bytes: their names for the error text.
_REFUSED = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"\x04\x22\x4d\x18": "compressed by LZ4",
    b"LZIP": "compressed by lzip",
    b"\x1f\x9d": "compressed by Unix's compress",
    b"MSCF": "a cabinet file",
    b"!<arch>\n": "an ar archive",
    b"07070": "a cpio archive",
    b"xar!": "a xar archive",
}
# The others, which hardly any program writes into a zip, unpack any length at once.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_PAX_LENGTH = re.compile(rb"([0-9]{1,9}) ")
_DIGITS = re.compile(rb"[0-9]{%d}" % (MAX_HEADER_DIGITS + 1))


@dataclass(frozen=True)
class Member:
    """A file, folder or anything else in an archive."""

    name: str
    is_folder: bool
    is_plain_file: bool
    """No link and no device."""
    open: Callable[[], IO[bytes]]


class Allowance:
    """Bytes that an archive may still unpack to."""

    def __init__(self, archive_bytes: int) -> None:
        expanded = max(MIN_EXPANSION_BYTES, MAX_EXPANSION * archive_bytes)
        self.total = self.left = min(MAX_UNPACKED_BYTES, expanded)

    def take(self, size: int) -> None:
        """Count bytes.

        Raises:
            InputError: there are too many.
        """
        self.left -= size
        if self.left < 0:
            raise InputError(
                f"the archive holds more than {self.total // 2**20} MiB, which is the most for its"
                " size: send photos as JPEG or PNG, in several archives"
            )


@contextmanager
def opened(archive: Path, allowance: Allowance) -> Iterator[Iterator[Member]]:
    """Yield the members of an archive; its kind is recognized by its content, not by its name.

    Each member can be opened until the next is asked for.

    Raises:
        InputError: no archive, or out of bounds.
        Exception: Python's own, of any kind, for a damaged archive.
    """
    with archive.open("rb") as file:
        start = file.read(_BLOCK_BYTES)
        file.seek(0)
        # A tar begins with its first file's name, which may look like the start of anything.
        is_tar = _is_tar_header(start)
        if not is_tar and (start.startswith(b"PK") or zipfile.is_zipfile(file)):
            with zipfile.ZipFile(_ShortReads(file)) as found:
                yield _zip_members(found)
            return
        file.seek(0)
        opener = None if is_tar else _begun_by(_OPENERS, start)
        if opener is None and not is_tar:
            what = _begun_by(_REFUSED, start) or "no zip or tar"
            raise InputError(
                f"train_data is {what}: send the photos as a .zip, .tar, .tar.gz, .tar.bz2 or"
                " .tar.xz"
            )
        with _Forward(opener(file) if opener else file, allowance, counts=bool(opener)) as source:
            yield _tar_members(source)


def _begun_by(kinds: Mapping[bytes, _T], start: bytes) -> _T | None:
    return next((kind for magic, kind in kinds.items() if start.startswith(magic)), None)


def _is_tar_header(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError):
        return False
    return True


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        if info.compress_type not in _ZIP_METHODS and not info.is_dir():
            raise InputError(
                f"the archive compresses {info.filename[:80]!r} by method {info.compress_type}:"
                " make an ordinary zip (stored or deflated)"
            )
        kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if it was made without Unix modes
        is_file = kind in (0, stat.S_IFREG)

        def read(info: zipfile.ZipInfo = info) -> IO[bytes]:
            return archive.open(info)

        yield Member(info.filename, info.is_dir(), is_file, read)


def _tar_members(source: _Forward) -> Iterator[Member]:
    with tarfile.open(fileobj=cast(BinaryIO, source), mode="r:") as archive:
        while True:
            source.reads_headers = True
            info = archive.next()
            source.reads_headers = False
            if info is None:
                return
            # tarfile would keep all members, each with a copy of all global headers.
            cast(Any, archive).members.clear()
            if len(archive.pax_headers) > MAX_HEADER_RECORDS:
                raise InputError("the archive has too many global headers: make it anew")

            def read(info: tarfile.TarInfo = info) -> IO[bytes]:
                return cast(IO[bytes], archive.extractfile(info))

            is_file = info.isfile() and not info.issparse()
            yield Member(info.name, info.isdir(), is_file, read)


class _ShortReads:
    """A zip file that reads at most its largest directory at once, whatever length it states."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise InputError(
                f"the archive's list of files has {size} bytes; at most {MAX_DIRECTORY_BYTES} are"
                " allowed: send fewer files"
            )
        return self._file.read(size)


class _Forward:
    """A tar's bytes, read from the front; what is skipped is counted as well.

    While `reads_headers`, tarfile asks for headers, and for their content at once.
    """

    def __init__(self, file: IO[bytes], allowance: Allowance, *, counts: bool) -> None:
        self._file, self._allowance, self._counts = file, allowance, counts
        self._position = 0
        self._header_bytes = 0
        self._reads_headers = True

    def __enter__(self) -> _Forward:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def reads_headers(self) -> bool:
        return self._reads_headers

    @reads_headers.setter
    def reads_headers(self, value: bool) -> None:
        self._reads_headers, self._header_bytes = value, 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position < 0:
            raise tarfile.ReadError("a place that isn't in the archive")
        if position < self._position:
            raise tarfile.ReadError("its headers lead backwards")
        if not self._counts:
            self._file.seek(position)
            self._position = position
        while self._position < position:
            if not self._next(min(_CHUNK_BYTES, position - self._position)):
                raise tarfile.ReadError("it ends early")
        return position

    def read(self, size: int = -1) -> bytes:
        if self._reads_headers:
            self._header_bytes += size
            if size < 0 or self._header_bytes > 4 * MAX_HEADER_BYTES or size > MAX_HEADER_BYTES:
                raise InputError("the archive has a header longer than any camera's: make it anew")
        data = self._next(size)
        if self._reads_headers and size > _BLOCK_BYTES:
            _check_header(data)
        return data

    def _next(self, size: int) -> bytes:
        data = self._file.read(size)
        if self._counts:
            self._allowance.take(len(data))
        self._position += len(data)
        return data


def _check_header(data: bytes) -> None:
    """Refuse a long name or pax header that would take tarfile long to parse.

    Raises:
        InputError: it has long runs of digits, many records, or records that overlap.
    """
    error = InputError("the archive has a damaged header: make it anew")
    if _DIGITS.search(data):
        raise error
    at, records = 0, 0
    while (found := _PAX_LENGTH.match(data, at)) is not None:
        length = int(found.group(1))
        end = at + length
        if length < len(found.group()) + 2 or data[end - 1 : end] != b"\n":
            raise error
        at, records = end, records + 1
        if records > MAX_HEADER_RECORDS:
            raise error
