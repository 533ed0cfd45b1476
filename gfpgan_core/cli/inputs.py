"""Find the photos in the files and folders that the command line is given."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gfpgan_core.bounds import MAX_IMAGE_BYTES
from gfpgan_core.cli.record import RECORD_NAME, results_in
from gfpgan_core.errors import InputError
from gfpgan_core.formats import HEAD_BYTES, RAW_SUFFIXES, READABLE, SUFFIXES, kind_of, not_read

# A file of such a name is meant as a photo, whatever is in it: it fails rather than is passed over.
_PHOTO_SUFFIXES = (
    *(*SUFFIXES, *RAW_SUFFIXES),
    *(".cr3", ".jp2", ".jxl", ".orf", ".raf"),
)

# Folders that systems fill with thumbnails or deleted files.
_SYSTEM_FOLDERS = frozenset(("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found"))

STANDARD_STREAM = "-"
"""In place of a path: the standard input or output."""
_CHUNK_BYTES = 1 << 20

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """A photo to restore."""

    path: Path
    subfolder: Path = Path()
    """Of the output folder, where its result goes: the photo's own in the folder that was named."""
    is_piped: bool = False
    """It came from the standard input, and the file is a copy."""

    @property
    def name(self) -> str:
        """Return what the user called it."""
        return STANDARD_STREAM if self.is_piped else str(self.path)


@dataclass
class Found:
    """Everything in the inputs: photos, problems, and counts of what is passed over."""

    photos: list[Source] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    """(path, reason) of inputs that can't be restored; each counts as failed."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Reason, in the plural -> number."""


@contextlib.contextmanager
def standard_input(inputs: Sequence[str]) -> Iterator[Path | None]:
    """Yield a copy of the standard input, if `-` is the input; it is gone afterwards.

    Raises:
        InputError: `-` and other inputs, a terminal, or more bytes than a photo may have.
    """
    if STANDARD_STREAM not in inputs:
        yield None
        return
    if len(inputs) > 1:
        raise InputError("- is the standard input, with one photo: name no other input beside it")
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("- reads a photo from the standard input: redirect it, as in < photo.jpg")
    with tempfile.TemporaryDirectory(prefix="gfpgan_") as folder:
        path, size = Path(folder) / "stdin", 0
        with path.open("wb") as file:
            while chunk := sys.stdin.buffer.read(_CHUNK_BYTES):
                size += file.write(chunk)
                if size > MAX_IMAGE_BYTES:
                    raise InputError(
                        f"the standard input goes on after {MAX_IMAGE_BYTES} bytes, which are the"
                        " most that a photo may have"
                    )
        yield path


def find_photos(inputs: Iterable[str], piped: Path | None = None) -> Found:
    """Return the photos in files and folders, with the folders' own folders.

    A named file is taken as a photo. In a folder the content decides, not the suffix; hidden files,
    links to folders, results of an earlier run and whatever is no image are passed over. `piped` is
    the copy of the standard input, which is the photo where an input is `-`.
    """
    found = Found()
    seen: set[str] = set()
    for name in inputs:
        if not name:
            found.problems.append(("''", "its name is empty: name a photo or a folder"))
        elif name == STANDARD_STREAM and piped:
            _add(Source(piped, is_piped=True), found, seen)
        elif _ADDRESS.match(name):
            found.problems.append(
                (name, "addresses are not read: download the photo, and name its file")
            )
        elif Path(name).is_dir():
            _search(Path(name), found, seen)
        else:
            _add(Source(Path(name)), found, seen)
    return found


def _search(root: Path, found: Found, seen: set[str]) -> None:
    """Add what lies in a folder, in the order of the names, folders after files."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            results = results_in(folder)
        except OSError as error:
            found.problems.append((str(folder), f"can't be searched: {error.strerror or error}"))
            continue
        inner: list[Path] = []
        for entry in entries:
            path = folder / entry.name
            if entry.name == RECORD_NAME:
                continue
            if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
                found.passed_over["hidden"] += 1
            elif _is_folder(entry, follow=False):
                inner.append(path)
            elif _is_folder(entry, follow=True):
                found.passed_over["linked folders"] += 1
            elif entry.name in results and results[entry.name] == _size(path):
                found.passed_over["earlier results"] += 1
            else:
                _add_if_photo(Source(path, folder.relative_to(root)), found, seen)
        folders += reversed(inner)


def _is_folder(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a link to itself
        return False


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _add_if_photo(source: Source, found: Found, seen: set[str]) -> None:
    """Add a folder's file, unless neither its content nor its name says that it is a photo."""
    try:
        is_regular = stat.S_ISREG(source.path.stat().st_mode)
        kind = kind_of(_head(source.path)) if is_regular else None
    except OSError:
        kind = "unreadable"  # reading it tells why
    if kind is None and source.path.suffix.lower() not in _PHOTO_SUFFIXES:
        found.passed_over["not images"] += 1
    else:
        _add(source, found, seen)


def _add(source: Source, found: Found, seen: set[str]) -> None:
    real = os.path.realpath(source.path)
    try:
        problem = _problem(source.path)
    except OSError as error:
        problem = f"can't be read: {error.strerror or error}"
    if problem:
        found.problems.append((source.name, problem))
    elif real in seen:
        found.passed_over["given twice"] += 1
    else:
        seen.add(real)
        found.photos.append(source)


def _problem(path: Path) -> str:
    """Return why a file is not worth opening as a photo, or nothing.

    Raises:
        OSError: it can't be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "it is a pipe, socket or device, and no file that can be read to its end"
    if status.st_size > MAX_IMAGE_BYTES:
        return f"it has {status.st_size} bytes; a photo may have at most {MAX_IMAGE_BYTES}"
    kind = kind_of(_head(path))
    if path.suffix.lower() in RAW_SUFFIXES and kind == "TIFF":
        kind = "camera raw"
    if kind is not None and kind not in READABLE:
        return not_read(path.name, kind)
    return ""


def _head(path: Path) -> bytes:
    """Return a file's first bytes; of a pipe that took its place, none, without waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(HEAD_BYTES)
