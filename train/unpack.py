"""Unpack the images in an untrusted archive."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from gfpgan_core.bounds import MAX_ARCHIVE_ENTRIES, MAX_ENTRY_BYTES
from gfpgan_core.errors import InputError
from gfpgan_core.formats import HEAD_BYTES, READABLE, kind_of
from train.archive import Allowance, Member, opened

_logger = logging.getLogger(__name__)

_CHUNK_BYTES = 2**18
_NOT_IMAGES = "not images"
_MAX_STEM = 60  # characters of a file's own name that are kept in ours

# Other characters than these could end a line, a path or an encoding.
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")
_DRIVE = re.compile(r"[A-Za-z]:(?:$|[^0-9 ])")  # C:photo.png; "12:30 pm.jpg" has none


@dataclass(frozen=True)
class Unpacked:
    """What an archive held."""

    images: list[Path]
    """The image files that were written, in order."""
    passed_over: str
    """How many others there are, if any, and why: `3 passed over: 2 not images, 1 hidden`."""


def unpack_images(archive: Path, destination: Path) -> Unpacked:
    """Write the image files of a zip or tar below `destination`.

    Images are recognized by their content. Other files, hidden ones and macOS's doubles are passed
    over, and counted in the log. Sizes are counted while writing: those that the archive states
    aren't trusted. The files get numbered names in plain ASCII: those in the archive may be of any
    length and encoding.

    Raises:
        InputError: no archive, damaged, encrypted, or one that holds links, names that lead
            elsewhere, too many files or too many bytes. `destination` is then removed.
        OSError: the files can't be written; removed as well.
    """
    destination.mkdir(parents=True)
    passed_over: Counter[str] = Counter()
    try:
        allowance = Allowance(archive.stat().st_size)
        with opened(archive, allowance) as members:
            images = list(_write_all(members, destination, allowance, passed_over))
    except InputError:
        shutil.rmtree(destination, ignore_errors=True)
        raise
    except _UnwritableError as error:  # not to be taken for one of the archive's
        shutil.rmtree(destination, ignore_errors=True)
        raise error.cause from error
    except Exception as error:  # broken archives make the readers raise all kinds of errors
        shutil.rmtree(destination, ignore_errors=True)
        raise InputError(
            "the archive is damaged, cut off or encrypted: send an undamaged .zip or .tar without a"
            " password"
        ) from error
    reasons = ", ".join(
        f"{number} {'not an image' if (number, reason) == (1, _NOT_IMAGES) else reason}"
        for reason, number in passed_over.most_common()
    )
    passed = f"{passed_over.total()} passed over{': ' * bool(reasons)}{reasons}"
    _logger.info("the archive holds %d images, %s", len(images), passed)
    return Unpacked(images, passed if passed_over else "")


def _write_all(
    members: Iterator[Member], destination: Path, allowance: Allowance, passed_over: Counter[str]
) -> Iterator[Path]:
    for count, member in enumerate(members, 1):
        if count > MAX_ARCHIVE_ENTRIES:
            raise InputError(f"the archive holds more than {MAX_ARCHIVE_ENTRIES} entries")
        name = member.name.replace("\\", "/")
        path = PurePosixPath(name)
        shown = ascii(member.name[:80])
        if path.is_absolute() or ".." in path.parts or _DRIVE.match(name):
            raise InputError(f"the archive names {shown}, which leads out of its folder")
        if member.is_folder:
            continue
        if not member.is_plain_file:
            raise InputError(f"the archive holds {shown}, a link or device: send files")
        if any(part.startswith(".") or part == "__MACOSX" for part in path.parts):
            passed_over["hidden"] += 1
            continue
        with member.open() as source:
            head = source.read(HEAD_BYTES)
            kind = kind_of(head)
            if kind not in READABLE:
                passed_over[f"{kind}, which is not read" if kind else _NOT_IMAGES] += 1
                continue
            target = destination / f"{count:05d}_{_plain(path)}"
            _write(head, source, target, shown, allowance)
        yield target


class _UnwritableError(Exception):
    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _UnwritableError(error) from error


def _plain(path: PurePosixPath) -> str:
    """Return a file's name in a form that every file system and log takes."""
    return _NOT_PLAIN.sub("_", path.stem)[:_MAX_STEM] + _NOT_PLAIN.sub("_", path.suffix)[:10]


def _write(head: bytes, source: IO[bytes], target: Path, shown: str, allowance: Allowance) -> None:
    written = 0
    with _writing():
        file = target.open("wb")
    try:
        chunk = head
        while chunk:
            written += len(chunk)
            if written > MAX_ENTRY_BYTES:
                raise InputError(f"{shown} has more than {MAX_ENTRY_BYTES // 2**20} MiB")
            allowance.take(len(chunk))
            with _writing():
                file.write(chunk)
                file.flush()
            chunk = source.read(_CHUNK_BYTES)
    finally:
        # All is flushed, or an error is on its way: closing would flush again, and hide it.
        with contextlib.suppress(OSError):
            file.close()
