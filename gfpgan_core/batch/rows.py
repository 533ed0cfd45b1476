"""The outcome of each photo: a journal while a shard runs, a Parquet file when it is done."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Literal, get_args

from gfpgan_core.batch.packages import require
from gfpgan_core.errors import InputError
from gfpgan_core.files import remove_partial_files, whole_file
from gfpgan_core.formats import WRITABLE

JOURNAL = "rows.jsonl"
ROWS = "rows.parquet"
SUCCESS = "_SUCCESS"
FETCHED_PREFIX = ".fetched_"
"""Prefix of the local copy of a bucket's photo, which is removed once the photo is restored."""
_LOCK = ".lock"
_RESULT = re.compile(rf"\d+\.({'|'.join(WRITABLE)})")


RowStatus = Literal["restored", "failed", "poison"]
STATUSES: tuple[str, ...] = get_args(RowStatus)


@dataclass(frozen=True)
class Row:
    """The outcome of one photo. `failed`: an error; `poison`: the process died of it."""

    id: int
    uri: str
    etag: str
    status: RowStatus
    output: str = ""
    """The result's name in the shard's folder."""
    faces: int = 0
    seconds: float = 0.0
    """From the start of its decoding to its written file; photos overlap."""
    sha256: str = ""
    """Of the result's file."""
    error: str = ""
    attempts: int = 1
    finished: float = 0.0
    """Seconds since 1970, UTC."""


def shard_folder(run: Path, shard: int) -> Path:
    """Return where a shard's results and rows lie."""
    return run / f"{shard:06d}"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a shard's folder and lock it; at both ends, remove what killed processes left in it.

    Raises:
        InputError: another process has the lock, or the folder can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process works in {folder}: let it end, or end it") from error
        except OSError as error:
            raise InputError(
                f"{folder} can't be locked ({error.strerror or error}): name an output on a file"
                " system that has locks"
            ) from error
        _remove_leftovers(folder)
        try:
            yield
        finally:
            _remove_leftovers(folder)


def _remove_leftovers(folder: Path) -> None:
    # A folder that lets nothing be removed takes no results either, which is said where they are
    # written; the next run sweeps it.
    with contextlib.suppress(OSError):
        remove_partial_files(folder)
        for left in folder.glob(f"{FETCHED_PREFIX}*"):
            left.unlink(missing_ok=True)


class Journal:
    """Append a line for each photo that is begun or done; the lines survive a kill."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._file: IO[str] | None = None

    def __enter__(self) -> Journal:
        """Open the journal for appending.

        Raises:
            InputError: it can't be written.
        """
        try:
            self._file = self._path.open("a", encoding="ascii")
            self._file.write("\n")  # a line that was cut off doesn't swallow the next one
        except OSError as error:
            raise InputError(f"{self._path} can't be written: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        assert self._file is not None
        with contextlib.suppress(OSError):  # of a line that didn't fit: it was reported
            self._file.close()

    def begun(self, photo: int, *, alone: bool) -> None:
        """Record that a photo was sent to the process that restores.

        Raises:
            InputError: it can't be written.
        """
        self._write({"begun": photo, "alone": alone})

    def row(self, row: Row) -> None:
        """Record the outcome of a photo.

        Raises:
            InputError: it can't be written.
        """
        self._write(asdict(row))

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        try:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"{self._path} can't be written: {error.strerror or error}; the same command goes"
                " on from here"
            ) from error


@dataclass
class Past:
    """What earlier runs recorded in a shard."""

    rows: dict[int, Row]
    begun: dict[int, int]
    """Photos without a row -> how often they were begun."""
    died_alone: dict[int, int]
    """Photos without a row -> how often they were begun with no other beside them."""


def past_of(folder: Path) -> Past:
    """Return what earlier runs recorded: the last row of each photo, and photos without one.

    Raises:
        InputError: its rows can't be read.
    """
    past = Past({row.id: row for row in _finished_rows(folder)}, {}, {})
    for line in _lines(folder / JOURNAL):
        try:
            if "begun" in line:
                photo = line["begun"]
                past.rows.pop(photo, None)  # it is done again
                past.begun[photo] = past.begun.get(photo, 0) + 1
                past.died_alone[photo] = past.died_alone.get(photo, 0) + bool(line["alone"])
            else:
                row = Row(**line)
                past.rows[row.id] = row
                past.begun.pop(row.id, None)
                past.died_alone.pop(row.id, None)
        except (KeyError, TypeError):
            continue
    return past


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield a journal's lines; one that was cut off is skipped."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    yield line


def _finished_rows(folder: Path) -> Iterator[Row]:
    path = folder / ROWS
    if path.is_file():
        pa, parquet = require("pyarrow"), require("pyarrow.parquet")
        try:
            rows = [Row(**row) for row in parquet.read_table(path).to_pylist()]
        except (OSError, TypeError, pa.ArrowException) as error:
            raise InputError(
                f"{path} can't be read as a shard's rows; remove its folder to do the shard again"
            ) from error
        yield from rows


def reopen(folder: Path) -> None:
    """Mark a shard as unfinished, because its results are about to change.

    Raises:
        InputError: the mark can't be removed.
    """
    try:
        (folder / SUCCESS).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder / SUCCESS} can't be removed: {error.strerror}") from error


def finish(folder: Path, rows: list[Row]) -> None:
    """Write a shard's rows, ordered by id, and mark the shard as done.

    Remove the journal, and results that no row names: of photos that changed and now fail, or have
    another format.

    Raises:
        InputError: they can't be written.
    """
    pa, parquet = require("pyarrow"), require("pyarrow.parquet")
    kinds = {"int": pa.int64(), "str": pa.string(), "float": pa.float64()}
    schema = pa.schema([(f.name, kinds.get(str(f.type), pa.string())) for f in fields(Row)])
    ordered = [asdict(row) for row in sorted(rows, key=lambda row: row.id)]
    try:
        with whole_file(folder / ROWS) as temporary:
            parquet.write_table(pa.Table.from_pylist(ordered, schema=schema), temporary)
        named = {row.output for row in rows}
        for path in folder.iterdir():
            if _RESULT.fullmatch(path.name) and path.name not in named and path.is_file():
                path.unlink()
        (folder / SUCCESS).touch()
        (folder / JOURNAL).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder / ROWS} can't be written: {error.strerror or error}") from error


def is_done(folder: Path) -> bool:
    """Return whether a shard has been finished."""
    return (folder / SUCCESS).exists() and (folder / ROWS).exists()
