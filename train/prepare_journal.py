"""The journal of `prepare_faces`, photo by photo, so that a second run adds to the first."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from gfpgan_core.errors import InputError
from train.components import Boxes

FILE_NAME = "prepared.jsonl"


@dataclass(frozen=True)
class Entry:
    """The outcome for one photo."""

    source: str
    """The photo's path."""
    sha256: str
    """Of its bytes: a photo that was moved or copied is known by them."""
    options: str
    """The options of the run; with others, the faces are made anew."""
    faces: dict[str, list[list[float]]] = field(default_factory=dict)
    """File name to boxes, see `train.components`."""
    refused: str = ""
    """Why nothing of the photo is used."""
    pages: int = 1
    """How many there are in the file; the first is used."""


class Journal:
    """The file in the faces' folder: a line is added when a photo's faces are on disk."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._by_source: dict[str, Entry] = {}
        self._by_content: dict[str, dict[str, Entry]] = {}  # the newest of a content last
        self.names: set[str] = set()
        """Files that entries name."""
        try:
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self._path} can't be read ({error}): remove it to look at every photo anew"
            ) from error
        self._needs_newline = bool(text) and not text.endswith("\n")  # a kill cut the last line off
        for line in text.splitlines():
            if entry := _entry_of(line):
                self._take(entry)

    def find(self, sha256: str) -> Entry | None:
        """Return the entry of a photo with this content, if there is one."""
        same = self._by_content.get(sha256)
        return list(same.values())[-1] if same else None

    def place(self, source: str) -> Entry | None:
        """Return the entry of the photo that was last seen at this path, if there is one."""
        return self._by_source.get(source)

    def is_copied(self, entry: Entry) -> bool:
        """Return whether its photo is in other places as well, to which its faces belong too."""
        return len(self._by_content[entry.sha256]) > 1

    def add(self, entry: Entry) -> None:
        """Append an entry; it replaces an earlier one of the same source.

        Raises:
            InputError: it can't be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._needs_newline + json.dumps(asdict(entry)) + "\n")
        except OSError as error:
            raise InputError(f"{self._path} can't be written: {error.strerror}") from error
        self._needs_newline = False
        self._take(entry)

    def boxes(self) -> dict[str, Boxes]:
        """Return the boxes of every face that was written."""
        return {
            name: np.array(rows, np.float64)
            for entries in self._by_content.values()
            for entry in entries.values()
            for name, rows in entry.faces.items()
        }

    def _take(self, entry: Entry) -> None:
        before = self._by_source.get(entry.source)
        if before is not None:
            del self._by_content[before.sha256][entry.source]
        self._by_source[entry.source] = entry
        self._by_content.setdefault(entry.sha256, {})[entry.source] = entry
        self.names |= set(entry.faces)


def _entry_of(line: str) -> Entry | None:
    """Return a line's entry; None for a line that was cut off."""
    try:
        return Entry(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None


def rows_of(boxes: Boxes) -> list[list[float]]:
    """Return boxes as JSON takes them, rounded as the boxes' own file is."""
    return np.round(boxes, 2).tolist()


def without_missing(boxes: dict[str, Boxes], folder: Path) -> dict[str, Boxes]:
    """Return the boxes of the files that are there."""
    there = {path.name for path in folder.iterdir()}
    return {name: rows for name, rows in boxes.items() if name in there}
