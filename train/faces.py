"""A collection of photos: a folder, a zip, a tar or an LMDB."""

from __future__ import annotations

import contextlib
import io
import logging
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.formats import HEAD_BYTES, kind_of

_logger = logging.getLogger(__name__)

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# Files that `prepare_faces` writes beside the faces.
_OWN_FILES = ("components.json", "prepared.jsonl")
# Errors that the standard library raises for damaged and encrypted archives.
_UNREADABLE = (
    OSError,
    KeyError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)

Kind = Literal["folder", "zip", "tar", "lmdb"]


@dataclass(frozen=True)
class Faces:
    """Names of images, sorted, and where their bytes are. Safe to hand to other processes."""

    path: Path
    kind: Kind
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Return the image file's bytes.

        Raises:
            InputError: it can't be read any more.
        """
        try:
            if self.kind == "folder":
                return (self.path / name).read_bytes()
            # One handle for each process: file positions must not be shared between workers.
            archive = _opened(self.path, self.kind, os.getpid())
            if self.kind == "zip":
                return bytes(archive.read(name))
            if self.kind == "tar":
                member = _tar_members(self.path, os.getpid())[name]
                return bytes(archive.extractfile(member).read())
            with archive.begin() as transaction:
                data = transaction.get(_encoded(name))
                if data is None:
                    raise KeyError(name)
                return bytes(data)
        except _UNREADABLE as error:
            raise InputError(f"{name} can't be read from {self.path}: {error}") from error

    def open(self, name: str) -> BinaryIO:
        """Return the image file, opened; of a folder without reading it.

        Raises:
            InputError: it can't be read any more.
        """
        if self.kind != "folder":
            return io.BytesIO(self.read(name))
        try:
            return (self.path / name).open("rb")
        except OSError as error:
            raise InputError(f"{name} can't be read from {self.path}: {error}") from error

    def stamp(self, name: str) -> tuple[int, int]:
        """Return the file's size in bytes, and what tells two files of one size apart.

        The time of change in ns; of a zip's member its checksum, of a tar's its time in s; of an
        LMDB's entry nothing.

        Raises:
            InputError: it isn't there any more.
        """
        try:
            if self.kind == "folder":
                status = (self.path / name).stat()
                return status.st_size, status.st_mtime_ns
            if self.kind == "zip":
                info = _opened(self.path, self.kind, os.getpid()).getinfo(name)
                return info.file_size, info.CRC
            if self.kind == "tar":
                member = _tar_members(self.path, os.getpid())[name]
                return member.size, int(member.mtime)
        except _UNREADABLE as error:
            raise InputError(f"{name} can't be read from {self.path}: {error}") from error
        return len(self.read(name)), 0

    def __len__(self) -> int:
        return len(self.names)


def open_faces(path: Path, *, without: Path | None = None) -> Faces:
    """Return the images in a folder (and below it), zip, tar or LMDB.

    An image is what its name or its first bytes say is one. Hidden files, such as macOS's
    `._photo.jpg`, are passed over, and so is the folder `without`; the log tells how many. An LMDB
    has the image's name as key and the encoded image as value, as basicsr writes it.

    Raises:
        InputError: there is nothing, or no image in it.
    """
    kind = _kind_of(path)
    found: list[str] = []
    passed_over: dict[str, list[str]] = {"hidden": [], "not images": []}
    for name, head in _entries(path, kind, without):
        if is_hidden(name):
            passed_over["hidden"].append(name)
        elif kind == "lmdb" or has_image_suffix(name) or kind_of(head) is not None:
            found.append(name)
        elif PurePosixPath(name).name not in _OWN_FILES:
            passed_over["not images"].append(name)
    for reason, names in passed_over.items():
        if names:
            reason = "not an image" if (reason, len(names)) == ("not images", 1) else reason
            _logger.info("passed over in %s: %d %s (%s)", path, len(names), reason, some_of(names))
    if not found:
        raise InputError(
            f"{path} holds no image ({', '.join(images.SUFFIXES)})"
            + "".join(f"; {len(names)} {why}" for why, names in passed_over.items() if names)
        )
    return Faces(path, kind, tuple(sorted(found)))


def is_hidden(name: str) -> bool:
    """Return whether a relative path leads through a hidden folder or file, or macOS's doubles."""
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def has_image_suffix(name: str) -> bool:
    """Return whether the name says that a file is an image that can be read."""
    return PurePosixPath(name).suffix.lower() in images.SUFFIXES


def some_of(names: list[str], count: int = 3) -> str:
    """Return the first names, printable whatever is in them, and dots for the others."""
    shown = [ascii(name)[1:-1] if not name.isprintable() else name for name in names[:count]]
    return ", ".join(shown + ["..."] * (len(names) > count))


def _entries(path: Path, kind: Kind, without: Path | None) -> Iterator[tuple[str, bytes]]:
    """Yield names of files with their first bytes; no bytes where the name tells enough."""
    if kind == "folder":
        yield from _files_below(path, without)
    elif kind == "lmdb":
        # Closed again at once: an LMDB that is open here couldn't be opened in a forked worker.
        with _open(path, kind) as base, base.begin() as transaction:
            for key in transaction.cursor().iternext(values=False):
                yield bytes(key).decode(errors="surrogateescape"), b""
    else:
        archive = _opened(path, kind, os.getpid())
        try:
            yield from _zip_entries(archive) if kind == "zip" else _tar_entries(archive)
        except _UNREADABLE as error:
            raise InputError(f"{path} can't be read: {error}") from error


def _files_below(folder: Path, without: Path | None) -> Iterator[tuple[str, bytes]]:
    def report(error: OSError) -> None:
        _logger.warning("passed over: %s can't be read (%s)", error.filename, error.strerror)

    for root, folders, files in os.walk(folder, onerror=report):
        here = Path(root)
        folders[:] = [name for name in folders if without is None or here / name != without]
        for name in files:
            path = here / name
            relative = path.relative_to(folder).as_posix()
            if not path.is_file():  # a FIFO would never be read to its end
                _logger.warning("passed over: %s is no file", path)
            elif is_hidden(relative) or has_image_suffix(name):
                yield relative, b""
            else:
                yield relative, _head_of(path)


def _head_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        _logger.warning("passed over: %s can't be read (%s)", path, error.strerror)
        return b""


def _zip_entries(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    for info in archive.infolist():
        if info.is_dir():
            continue
        head = b""
        if not has_image_suffix(info.filename):
            with contextlib.suppress(*_UNREADABLE), archive.open(info) as file:
                head = file.read(HEAD_BYTES)
        yield info.filename, head


def _tar_entries(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if member.isfile():
            file = None if has_image_suffix(member.name) else archive.extractfile(member)
            yield member.name, file.read(HEAD_BYTES) if file else b""


def _kind_of(path: Path) -> Kind:
    if (path / "data.mdb").is_file():
        return "lmdb"
    if path.is_dir():
        return "folder"
    if path.is_file() and path.suffix.lower() == ".zip":
        return "zip"
    if path.is_file() and path.name.lower().endswith(_TAR_SUFFIXES):
        return "tar"
    raise InputError(
        f"{path} is no folder, .zip, {', '.join(_TAR_SUFFIXES)} or LMDB: give one that holds"
        " aligned face images (python -m scripts.prepare_faces makes them)"
    )


@lru_cache(maxsize=8)
def _opened(path: Path, kind: Kind, pid: int) -> Any:
    """Return an archive that stays open; `pid` keeps processes from sharing one."""
    del pid
    return _open(path, kind)


@lru_cache(maxsize=8)
def _tar_members(path: Path, pid: int) -> dict[str, tarfile.TarInfo]:
    """Return a tar's files by name: tarfile itself goes through all of them for each."""
    return {member.name: member for member in _opened(path, "tar", pid) if member.isfile()}


def _open(path: Path, kind: Kind) -> Any:
    try:
        if kind == "zip":
            return zipfile.ZipFile(path)
        if kind == "tar":
            return tarfile.open(path)
        import lmdb

        return lmdb.open(str(path), readonly=True, lock=False, readahead=False)
    except ImportError as error:
        raise InputError("reading an LMDB needs `pip install lmdb`") from error
    except _UNREADABLE as error:
        raise InputError(f"{path} can't be opened: {error}") from error


def _encoded(name: str) -> bytes:
    return name.encode(errors="surrogateescape")
