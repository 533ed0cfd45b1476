"""The progress of a batch, read from the files in its folder alone."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfpgan_core.batch.manifest import ids_in
from gfpgan_core.batch.packages import require
from gfpgan_core.batch.rows import STATUSES, Row, is_done, past_of
from gfpgan_core.errors import InputError

SETTINGS = "settings.json"
"""File in the folder of a run, with its settings and the manifest's path."""

_SLOWEST = 5
_RECENT_S = 300.0


@dataclass
class Status:
    """The figures of a run. Times are seconds since 1970, UTC."""

    total: int
    """Photos in the manifest."""
    counts: Counter[str] = field(default_factory=Counter)
    """restored, failed, poison -> number of photos."""
    faces: int = 0
    shards_done: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Cause, without names and numbers -> number of photos."""
    slowest: list[Row] = field(default_factory=list)
    poison: list[Row] = field(default_factory=list)
    finished: list[float] = field(default_factory=list)
    """When each photo was done, ordered."""
    recent_faces: int = 0
    """In the last five minutes of work."""
    not_named: int = 0
    """Rows of photos that the manifest doesn't name (any more); nothing else counts them."""

    @property
    def done(self) -> int:
        """Return how many photos have a row."""
        return self.counts.total()

    def photos_per_s(self) -> float:
        """Return the rate over the last five minutes of work."""
        recent = [moment for moment in self.finished if moment >= self.finished[-1] - _RECENT_S]
        seconds = recent[-1] - recent[0] if recent else 0.0
        return (len(recent) - 1) / seconds if seconds > 0 else 0.0

    def seconds_left(self) -> float | None:
        """Return the time left at the rate of `photos_per_s`; None where there is none yet."""
        rate = self.photos_per_s()
        return (self.total - self.done) / rate if rate else None

    def lines(self) -> list[str]:
        """Return the status as lines of text."""
        counts = ", ".join(f"{self.counts[name]} {name}" for name in STATUSES)
        rate = self.photos_per_s()
        faces = self.faces / self.done if self.done else 0.0
        lines = [
            f"{self.done} of {self.total} photos: {counts}; {self.shards_done} shards done",
            f"{rate:.2f} photos/s, {rate * faces:.2f} faces/s; {_time_left(self.seconds_left())}",
        ]
        if self.not_named:
            lines.append(f"{self.not_named} more photos that this manifest does not name")
        lines += [f"failed: {number} x {cause}" for cause, number in self.failures.most_common(10)]
        lines += [f"poison: {row.uri}: {row.error}" for row in self.poison]
        lines += [f"slowest: {row.seconds:.1f} s {row.uri}" for row in self.slowest]
        return lines

    def prometheus(self) -> str:
        """Return the status in Prometheus's text format."""
        lines = [
            "# HELP gfpgan_batch_photos Photos by what became of them.",
            "# TYPE gfpgan_batch_photos gauge",
        ]
        named = {name: self.counts[name] for name in STATUSES}
        named["waiting"] = self.total - self.done
        lines += [f'gfpgan_batch_photos{{status="{name}"}} {n}' for name, n in named.items()]
        for name, value, about in (
            ("faces", self.faces, "Faces restored."),
            ("shards_done", self.shards_done, "Shards with all of their rows."),
            ("photos_per_second", round(self.photos_per_s(), 4), "Pace of the last five minutes."),
        ):
            lines += [f"# HELP gfpgan_batch_{name} {about}", f"# TYPE gfpgan_batch_{name} gauge"]
            lines.append(f"gfpgan_batch_{name} {value}")
        return "\n".join(lines) + "\n"


def status_of(run: Path) -> Status:
    """Return the status of a run's folder; a shard in work counts with the rows that it has.

    Raises:
        InputError: it is no run's folder, or its manifest is gone.
    """
    try:
        manifest = json.loads((run / SETTINGS).read_text(encoding="utf-8"))["manifest"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{run} is no folder of `gfpgan batch run`") from error
    named = ids_in(Path(manifest))
    status = Status(len(named))
    for folder in sorted(path for path in run.iterdir() if re.fullmatch(r"\d{6,}", path.name)):
        status.shards_done += is_done(folder)
        rows = list(past_of(folder).rows.values())
        ours = _are_in(named, rows)
        status.not_named += len(rows) - len(ours)
        for row in ours:
            status.counts[row.status] += 1
            status.faces += row.faces
            status.finished.append(row.finished)
            if row.status == "failed":
                status.failures[_cause(row.error)] += 1
            if row.status == "poison":
                status.poison.append(row)
            status.slowest.append(row)
        status.slowest = sorted(status.slowest, key=lambda row: -row.seconds)[:_SLOWEST]
    status.finished.sort()
    return status


def _are_in(named: NDArray[np.int64], rows: list[Row]) -> list[Row]:
    """Return the rows whose ids are among sorted ones."""
    ids = np.fromiter((row.id for row in rows), np.int64, len(rows))
    places = np.searchsorted(named, ids).clip(max=len(named) - 1)
    return [row for row, is_named in zip(rows, named[places] == ids, strict=True) if is_named]


def _cause(error: str) -> str:
    """Return an error without the photo's name and numbers, to count equal causes together."""
    without_name = re.sub(r"^\S*[/\\]\S+ ", "", error)
    return re.sub(r"\d+", "N", without_name)[:120]


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return "time left not known yet"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min left" if hours else f"{rest // 60} min {rest % 60} s left"


def draw(status: Status, path: Path) -> None:
    """Write a picture of the photos done over time.

    Raises:
        InputError: matplotlib is missing, there is nothing to draw, or the file can't be written.
    """
    pyplot = require("matplotlib.pyplot")
    if not status.finished:
        raise InputError("nothing is done yet: there is nothing to draw")
    minutes = [(moment - status.finished[0]) / 60 for moment in status.finished]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    axes.plot(minutes, range(1, len(minutes) + 1))
    axes.set(xlabel="minutes", ylabel="photos done", ylim=(0, None))
    axes.set_title(time.strftime("from %Y-%m-%d %H:%M UTC", time.gmtime(status.finished[0])))
    axes.grid(alpha=0.3)
    try:
        figure.savefig(path, dpi=100, bbox_inches="tight")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} can't be written: {error}") from error
    finally:
        pyplot.close(figure)
