"""Images out of an archive that a stranger sent."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from gfpgan_core import images
from gfpgan_core.errors import InputError

MAX_FILES = 20_000
MAX_FILE_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 8 * 2**30

_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    is_plain_file: bool
    handle: Any


def unpack_images(archive: Path, destination: Path) -> list[Path]:
    """The image files of a zip or tar, written below `destination` and listed in order.

    Other files, hidden ones and macOS's doubles are passed over. Sizes are counted while writing:
    what the archive says of itself isn't trusted.

    Raises:
        InputError: no archive, damaged, encrypted, or one that holds links, names that lead
            elsewhere, too many files or too many bytes. `destination` is then removed.
    """
    destination.mkdir(parents=True)
    try:
        with _opened(archive) as (members, open_member):
            return list(_write_all(members, open_member, destination))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError) as error:
        shutil.rmtree(destination, ignore_errors=True)
        raise InputError(
            f"the archive can't be read: {error}. Send an undamaged .zip or .tar without a password"
        ) from error
    except InputError:
        shutil.rmtree(destination, ignore_errors=True)
        raise


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterator[_Member], Any]]:
    """The members, and a function that opens one. The kind is told by content, not by name."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as found:
            yield (_zip_member(info) for info in found.infolist()), found.open
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as found_tar:
            yield (_tar_member(info) for info in found_tar), found_tar.extractfile
    else:
        raise InputError("train_data is no zip or tar of photos, or it is damaged at its start")


def _zip_member(info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was made without Unix modes
    return _Member(info.filename, info.is_dir(), kind in (0, stat.S_IFREG), info)


def _tar_member(info: tarfile.TarInfo) -> _Member:
    return _Member(info.name, info.isdir(), info.isfile(), info)


def _write_all(members: Iterator[_Member], open_member: Any, destination: Path) -> Iterator[Path]:
    total = 0
    for count, member in enumerate(members, 1):
        if count > MAX_FILES:
            raise InputError(f"the archive holds more than {MAX_FILES} entries")
        path = PurePosixPath(member.name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in member.name:
            raise InputError(f"the archive names {member.name!r}, which leads out of its folder")
        if member.is_folder:
            continue
        if not member.is_plain_file:
            raise InputError(f"the archive holds {member.name!r}, a link or device: send files")
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        if hidden or path.suffix.lower() not in images.SUFFIXES:
            continue
        # Numbered: names may differ only in what a file system ignores.
        target = destination / f"{count:05d}_{path.name}"
        with open_member(member.handle) as source:
            total = _copy(source, target, member.name, total)
        yield target


def _copy(source: IO[bytes], target: Path, name: str, total: int) -> int:
    """Writes the file; the bytes written so far, this file's included."""
    written = 0
    with target.open("wb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            written += len(chunk)
            if written > MAX_FILE_BYTES:
                raise InputError(f"{name!r} has more than {MAX_FILE_BYTES // 2**20} MiB")
            if total + written > MAX_TOTAL_BYTES:
                raise InputError(f"the archive holds more than {MAX_TOTAL_BYTES // 2**30} GiB")
            file.write(chunk)
    return total + written
