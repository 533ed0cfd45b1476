"""Write results under free names, whole or not at all, and record them for later runs."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gfpgan_core.cli.inputs import Source
from gfpgan_core.cli.record import Entry, add_entries, entries_in
from gfpgan_core.errors import InputError
from gfpgan_core.files import remove_partial_files, sha256_of, whole_file

# A partial file of this age was left by a run that was killed: writing one takes seconds.
_ABANDONED_AFTER_S = 600


class Results:
    """Writes a run's results, and replaces nothing that the run did not write.

    Files are compared by what they are and not by name: a file system may ignore case, and one file
    may have several names.
    """

    def __init__(self, originals: Iterable[Path], *, overwrite: bool = False) -> None:
        self._overwrite = overwrite
        self._protected = {identity for path in originals if (identity := _identity(path))}
        """Of the originals, which not even `overwrite` replaces, and of what this run wrote."""
        self._prepared: set[Path] = set()

    def write(
        self,
        folder: Path,
        stem: str,
        parts: Mapping[str, bytes],
        about: Mapping[str, Any] | None = None,
    ) -> list[Path]:
        """Write files called `<stem><ending>`, or all `<stem>_2<ending>` where one is taken.

        Args:
            folder: Made if it is missing.
            stem: Shortened where the file system's limit asks for it.
            parts: Ending -> content. A file that has this content already is left as it is.
            about: What the record says beside each file's name and size.

        Raises:
            InputError: they can't be written.
        """
        try:
            self._prepare(folder)
            limit = _name_limit(folder)
            for number in itertools.count(1):
                name = _fitted(stem, f"_{number}" * (number > 1), parts, limit)
                targets = {folder / f"{name}{ending}": data for ending, data in parts.items()}
                with contextlib.suppress(FileExistsError):  # made since by another process
                    if all(self._is_free(target, data) for target, data in targets.items()):
                        self._write_all(folder, targets, about or {})
                        return list(targets)
        except OSError as error:
            raise _unwritable(folder / f"{stem}{next(iter(parts))}", error) from error
        raise AssertionError("numbers don't end")

    def write_file(self, path: Path, data: bytes, about: Mapping[str, Any] | None = None) -> None:
        """Write the file that the user named; `about` as in `write`.

        Raises:
            InputError: it exists, or can't be written.
        """
        try:
            if not self._is_free(path, data):
                raise InputError(in_the_way(path))
            self._prepare(path.parent)
            self._write_all(path.parent, {path: data}, about or {})
        except FileExistsError as error:
            raise InputError(in_the_way(path)) from error
        except OSError as error:
            raise _unwritable(path, error) from error

    def _prepare(self, folder: Path) -> None:
        if os.path.lexists(folder) and not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        folder.mkdir(parents=True, exist_ok=True)  # anew where it was removed since
        if folder not in self._prepared:
            self._prepared.add(folder)
            remove_partial_files(folder, older_than_s=_ABANDONED_AFTER_S)

    def _is_free(self, target: Path, data: bytes) -> bool:
        """Return whether the file may be written, or holds the data already."""
        try:
            status = target.stat()
        except OSError:  # nothing there, or a link that leads nowhere
            return not os.path.lexists(target)
        if (status.st_dev, status.st_ino) in self._protected or not stat.S_ISREG(status.st_mode):
            return False
        return self._overwrite or _holds(target, status.st_size, data)

    def _write_all(
        self, folder: Path, targets: Mapping[Path, bytes], about: Mapping[str, Any]
    ) -> None:
        # The record comes first: a run that is killed leaves no result that isn't in it.
        add_entries(
            folder, [Entry(path.name, len(data), **about) for path, data in targets.items()]
        )
        for target, data in targets.items():
            self._write(target, data)

    def _write(self, target: Path, data: bytes) -> None:
        status = target.stat() if target.exists() else None
        if status is None or not _holds(target, status.st_size, data):
            with whole_file(target, replace=self._overwrite) as partial:
                partial.write_bytes(data)
        if identity := _identity(target):
            self._protected.add(identity)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _holds(path: Path, size: int, data: bytes) -> bool:
    return size == len(data) and path.read_bytes() == data


def _fitted(stem: str, number: str, endings: Iterable[str], limit: int) -> str:
    """Return the stem with its number, cut so that the longest name fits into `limit` bytes."""
    room = limit - len(number) - max(len(os.fsencode(ending)) for ending in endings)
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + number


def _name_limit(folder: Path) -> int:
    """Return how many bytes a file's name may have there."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):
        return 255


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} can't be written: {error.strerror or error}")


def in_the_way(path: Path) -> str:
    """Return the error text for a file that exists already."""
    return f"{path} exists: --overwrite replaces it, unless it is one of the photos"


def check_absent(path: Path) -> None:
    """Check that nothing is in the way of the file that the user named, for a run that goes on.

    Raises:
        InputError: a file is there, which isn't the photo's result.
    """
    if os.path.lexists(path):
        raise InputError(
            f"{path} exists, and is no result of this photo with these options and weights:"
            " --overwrite replaces it, unless it is one of the photos"
        )


def check_writable(folder: Path) -> None:
    """Check before anything is restored whether results can be written.

    Raises:
        InputError: the folder, or the nearest one that exists above it, takes no file.
    """
    nearest = folder
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(1 << 16))
    except OSError as error:
        raise InputError(
            f"results can't be written to {folder} ({nearest}: {error.strerror or error});"
            " name another folder with --output"
        ) from error


def done_before(
    sources: Iterable[Source],
    folder: Path,
    options: Mapping[str, Any],
    unsaid: Mapping[str, Any],
    only: Path | None = None,
) -> dict[Source, Path]:
    """Return the photos with a result from an earlier run with the same options, and the result.

    The photo is known by its name and content, the result by the folder's record; a result that was
    removed or changed since does not count.

    Args:
        sources: The photos.
        folder: Of the results.
        options: What the photos are to be restored with, as records hold it.
        unsaid: Option -> its value in a record that doesn't name it: an earlier version, which
            hadn't that option yet, wrote the record.
        only: The result that counts, where the user named it.
    """
    kept: dict[Path, list[Entry]] = {}
    done: dict[Source, Path] = {}
    for source in sources:
        target = folder / source.subfolder
        if target not in kept:
            kept[target] = [
                entry
                for entry in _kept(target, options, unsaid)
                if only is None or entry.result == only.name
            ]
        if entry := _entry_of(source, kept[target]):
            kept[target].remove(entry)  # another photo of this name and content has its own
            done[source] = target / entry.result
    return done


def _kept(folder: Path, options: Mapping[str, Any], unsaid: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield the entries of results that are still there, each result's last."""
    try:
        latest = {entry.result: entry for entry in entries_in(folder)}
    except OSError:
        return
    for entry in latest.values():
        with contextlib.suppress(OSError):
            size = (folder / entry.result).stat().st_size
            if {**unsaid, **entry.options} == options and size == entry.bytes:
                yield entry


def _entry_of(source: Source, entries: list[Entry]) -> Entry | None:
    named = [entry for entry in entries if entry.source == source.path.name]
    try:
        digest = sha256_of(source.path) if named else ""
    except OSError:
        return None
    return next((entry for entry in named if entry.sha256 == digest), None)
