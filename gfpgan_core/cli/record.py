"""The record in each output folder: lists its results, so that later runs recognize them."""

from __future__ import annotations

import argparse
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gfpgan_core.weights.folders import weights_sha256
from gfpgan_core.weights.releases import RELEASES, SHIPPED

RECORD_NAME = ".gfpgan_results.jsonl"


@dataclass(frozen=True)
class Entry:
    """One result, as a line of JSON."""

    result: str
    """The name of the file, in the record's folder."""
    bytes: int
    options: dict[str, Any] = field(default_factory=dict)
    """The options that it was restored with."""
    source: str = ""
    """The name of the photo; a saved face has none."""
    sha256: str = ""
    """The hash of the photo's file."""


def entries_in(folder: Path) -> list[Entry]:
    """Return what a folder's record lists; lines that a cut-off run left are skipped.

    Raises:
        OSError: the record can't be read.
    """
    return list(_read(folder / RECORD_NAME))


def results_in(folder: Path) -> dict[str, int]:
    """Return the names of a folder's results with their size in bytes.

    Raises:
        OSError: the record can't be read.
    """
    return {entry.result: entry.bytes for entry in entries_in(folder)}


def _read(path: Path) -> Iterator[Entry]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        for line in file:
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError, RecursionError):
                continue
            kinds = ((entry.result, str), (entry.bytes, int), (entry.options, dict))
            if all(isinstance(value, kind) for value, kind in kinds):
                yield entry


def add_entries(folder: Path, entries: list[Entry]) -> None:
    """Append to a folder's record.

    Raises:
        OSError: it can't be written.
    """
    # In a folder of somebody else's, a link could lead to any file.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW
    descriptor = os.open(folder / RECORD_NAME, flags, 0o666)
    with os.fdopen(descriptor, "ab") as file:
        # One write, with a line break first: a line that was cut off doesn't swallow this one.
        lines = [json.dumps(asdict(entry)) for entry in entries]
        file.write(("\n" + "\n".join(lines) + "\n").encode("ascii"))


def weights_recorded(options: argparse.Namespace) -> dict[str, str]:
    """Return what tells the options' weights from others, where the version's name does not.

    Raises:
        WeightsError: they can't be read.
    """
    if options.weights:
        return {"version": weights_sha256(options.weights)}
    if RELEASES[options.version].file is None:  # ships, and changes, with the package
        return {"weights_sha256": weights_sha256(SHIPPED)}
    return {}
