"""Restore shards one by one, in a process that is watched and started again when it dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfpgan_core.batch.manifest import Item, items_in
from gfpgan_core.batch.process import ProcessDiedError, RestoringProcess
from gfpgan_core.batch.rows import (
    Journal,
    Past,
    Row,
    finish,
    is_done,
    locked,
    past_of,
    reopen,
    shard_folder,
)
from gfpgan_core.batch.settings import Settings
from gfpgan_core.errors import InputError

PHOTO_TIMEOUT_S = 1800.0
"""After this time without an event a process counts as dead."""

# A photo that was alone in its process when that died, this often, is poison. With two, one good
# photo of 10,000 was called so where processes were killed every 6 s.
_DEATHS_ALONE = 3

# So many processes in a row that die before their first photo: no photo is the cause.
_MAX_EARLY_DEATHS = 10


@dataclass(frozen=True)
class Job:
    """What is restored, how, and where the results go."""

    settings: Settings
    manifest: Path
    run: Path
    """The folder of these settings' results."""
    retry_failed: bool = False
    """Do again what failed or was poison."""


class StoppedError(Exception):
    """A worker was told to stop."""


class Worker:
    """Restores shards, one after another; its process keeps the networks between them."""

    def __init__(self, job: Job, *, photo_timeout_s: float = PHOTO_TIMEOUT_S) -> None:
        self._job = job
        self._timeout_s = photo_timeout_s
        self._process: RestoringProcess | None = None
        self._is_stopped = False
        # Guards the two above, which `stop` changes from another thread.
        self._lock = threading.Lock()

    def __enter__(self) -> Worker:
        """Return itself; the process is started by the first photo."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._end_process()

    def stop(self) -> None:
        """End the process from another thread; `run_shard` raises `StoppedError` there."""
        with self._lock:
            self._is_stopped = True
        self._end_process()

    def run_shard(self, shard: int, on_row: Callable[[Row], None] = lambda row: None) -> int:
        """Restore the photos of a shard that aren't done; return how many they were.

        `shard` counts from 0. `on_row` is called with the row of each photo.

        Raises:
            InputError: the manifest can't be read, results can't be written, or another process
                works on the shard.
            WeightsError: the networks' weights can't be had.
            StoppedError: another thread called `stop`.
        """
        items = items_in(self._job.manifest, shard)
        folder = shard_folder(self._job.run, shard)
        with locked(folder):
            past = past_of(folder)
            done = {item.id for item in items if _is_done(past.rows.get(item.id), item)}
            if self._job.retry_failed:
                done = {photo for photo in done if past.rows[photo].status == "restored"}
            todo = [item for item in items if item.id not in done]
            if not todo and is_done(folder):
                return 0
            reopen(folder)
            rows = dict(past.rows)  # of photos that this manifest doesn't name, too
            with Journal(folder) as journal:
                for row in self._rows(todo, folder, journal, past):
                    rows[row.id] = row
                    on_row(row)
            finish(folder, list(rows.values()))
        return len(todo)

    def _rows(self, todo: list[Item], folder: Path, journal: Journal, past: Past) -> Iterator[Row]:
        """Yield a row for each photo, as they are done.

        Photos that a process died with come first, each alone in its process, so that the one that
        causes it is found.
        """
        left = {item.id: item for item in todo}
        early_deaths = 0
        while left:
            suspects = [item for item in left.values() if item.id in past.begun]
            if suspects and past.died_alone.get(suspects[0].id, 0) >= _DEATHS_ALONE:
                row = _poison(suspects[0], past.begun[suspects[0].id])
                journal.row(row)
                del left[row.id]
                yield row
                continue
            batch = _Batch(suspects[:1] or list(left.values()), folder, journal, past)
            try:
                for row in batch.rows(self._running()):
                    del left[row.id]
                    yield row
            except ProcessDiedError:
                if self._is_stopped:
                    raise StoppedError from None
                cause = self._end_process()
                early_deaths = 0 if batch.has_begun else early_deaths + 1
                if early_deaths == _MAX_EARLY_DEATHS:
                    raise InputError(
                        f"the process that restores died {early_deaths} times before its first"
                        f" photo ({cause}): is there enough memory?"
                    ) from None

    def _running(self) -> RestoringProcess:
        with self._lock:
            if self._is_stopped:
                raise StoppedError
            if self._process is None:
                self._process = RestoringProcess(self._job.settings, self._timeout_s)
            return self._process

    def _end_process(self) -> str:
        """End the process; return how it ended."""
        with self._lock:
            process, self._process = self._process, None
        return process.end() if process else ""


def _is_done(row: Row | None, item: Item) -> bool:
    return row is not None and row.etag == item.etag


def _poison(item: Item, times: int) -> Row:
    return Row(
        item.id,
        item.uri,
        item.etag,
        "poison",
        error=f"the process that restored it died {times} times; it is not tried again",
        attempts=times,
        finished=round(time.time(), 3),
    )


@dataclass
class _Batch:
    """Photos that one process restores in a row."""

    items: list[Item]
    folder: Path
    journal: Journal
    past: Past
    has_begun: bool = False

    def rows(self, process: RestoringProcess) -> Iterator[Row]:
        """Yield the rows of the photos; record each photo in the journal before it is restored.

        Raises:
            ProcessDiedError: the process died.
            InputError: results can't be written.
            WeightsError: the process has no weights.
        """
        by_id = {item.id: item for item in self.items}
        photos = [{"id": i.id, "uri": i.uri, "folder": str(self.folder)} for i in self.items]
        for event in process.restore(photos):
            if event["event"] == "begun":
                self._begin(event["id"])
            elif event["event"] == "stop":
                raise InputError(f"{event['error']}; the same command goes on from here")
            else:
                yield self._row(by_id[event["id"]], event["row"])

    def _begin(self, photo: int) -> None:
        alone = len(self.items) == 1
        self.has_begun = True
        self.journal.begun(photo, alone=alone)
        self.past.begun[photo] = self.past.begun.get(photo, 0) + 1
        self.past.died_alone[photo] = self.past.died_alone.get(photo, 0) + alone

    def _row(self, item: Item, values: dict[str, Any]) -> Row:
        attempts = self.past.begun.pop(item.id, 1)
        row = Row(item.id, item.uri, item.etag, attempts=attempts, **values)
        self.journal.row(row)
        return row
