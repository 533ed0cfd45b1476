"""The process that restores photos: `python -m gfpgan_core.batch.child`, driven over its pipes.

The first line of its stdin is the settings as JSON, each further line a list of photos. On stdout
it writes one line of JSON for each event: `ready` or `refused`, and for each list `begun` and `row`
of each photo, then `end` or `stop`. A photo that crashes it does not stop the process that started
it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gfpgan_core.batch.packages import require
from gfpgan_core.batch.rows import FETCHED_PREFIX
from gfpgan_core.batch.settings import Settings
from gfpgan_core.bounds import MAX_IMAGE_BYTES
from gfpgan_core.errors import InputError, WeightsError, error_text
from gfpgan_core.files import write_behind
from gfpgan_core.loading import load_restorer

if TYPE_CHECKING:
    from gfpgan_core.result import Restoration


def main() -> int:
    """Return the exit status: 0 at the end of stdin, 1 where the networks or the disk fail."""
    events = _events_on_stdout()
    lines = iter(sys.stdin.readline, "")
    try:
        child = _Child(Settings.from_json(next(lines)), events)
    except (InputError, WeightsError) as error:
        _report(events, event="refused", error=str(error))
        return 1
    _report(events, event="ready")
    for line in lines:
        try:
            child.restore(json.loads(line))
        except _UnwritableError as error:
            _report(events, event="stop", error=str(error))
            return 1
        _report(events, event="end")
    return 0


class _UnwritableError(Exception):
    """The folder of results takes no more files: no fault of a photo."""


def _events_on_stdout() -> TextIO:
    """Return a stream of events on stdout, and redirect all other output to stderr."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return events


def _report(events: TextIO, **values: Any) -> None:
    events.write(json.dumps(values) + "\n")
    events.flush()


class _Child:
    def __init__(self, settings: Settings, events: TextIO) -> None:
        self._settings = settings
        self._events = events
        self._restorer = load_restorer(
            settings.version,
            settings.weights,
            settings.options.background,
            settings.device,
            detector=settings.detector,
            mask=settings.mask,
            backend=settings.backend,
        )

    def restore(self, photos: list[dict[str, Any]]) -> None:
        """Restore photos; encode and write each while the next one is restored."""
        results = self._restorer.restore_many(self._paths(photos), self._settings.options)
        write_behind(zip(photos, results, strict=True), lambda pair: self._save(*pair))

    def _paths(self, photos: list[dict[str, Any]]) -> Iterator[Path]:
        for photo in photos:
            photo["started"] = time.time()
            _report(self._events, event="begun", id=photo["id"])
            try:
                yield _local_path(photo)
            except InputError as error:
                photo["problem"] = str(error)
                yield Path(photo["folder"])  # can't be read; `_save` reports the problem

    def _save(self, photo: dict[str, Any], result: Restoration | Exception) -> None:
        row: dict[str, Any] = {}
        try:
            if "problem" in photo:
                raise InputError(photo["problem"])
            if isinstance(result, Exception):
                raise result
            file_format = result.format_for(self._settings.format)
            data = result.encode(file_format, keep_gps=self._settings.keep_gps)
            path = Path(photo["folder"]) / f"{photo['id']}.{file_format}"
        except Exception as error:  # of one photo: the others are restored
            row = {"status": "failed", "error": error_text(error)}
        else:
            from gfpgan_core import images

            try:
                images.write(path, data)
            except InputError as error:
                raise _UnwritableError(str(error)) from error
            digest = hashlib.sha256(data).hexdigest()
            row = {"status": "restored", "output": path.name, "sha256": digest}
            row["faces"] = len(result.faces)
        finished = time.time()
        row |= {"seconds": round(finished - photo["started"], 4), "finished": round(finished, 3)}
        if "fetched" in photo:
            Path(photo["fetched"]).unlink(missing_ok=True)
        _report(self._events, event="row", id=photo["id"], row=row)


def _local_path(photo: dict[str, Any]) -> Path:
    """Return a photo's file; one that lies in a bucket is fetched first.

    Raises:
        InputError: it can't be fetched.
        _UnwritableError: it can't be written here.
    """
    uri = photo["uri"]
    if "://" not in uri:
        return Path(uri)
    fs, pa = require("pyarrow.fs"), require("pyarrow")
    path = Path(photo["folder"]) / f"{FETCHED_PREFIX}{photo['id']}"
    photo["fetched"] = str(path)
    try:
        system, name = fs.FileSystem.from_uri(uri)
        size = system.get_file_info(name).size
        if size is not None and size > MAX_IMAGE_BYTES:
            raise InputError(f"it has {size} bytes; a photo may have at most {MAX_IMAGE_BYTES}")
        with system.open_input_stream(name) as stream:
            data = stream.read(MAX_IMAGE_BYTES + 1)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"it can't be fetched: {reason}") from error
    try:
        path.write_bytes(data)
    except OSError as error:
        raise _UnwritableError(f"{path} can't be written: {error.strerror or error}") from error
    return path


if __name__ == "__main__":
    sys.exit(main())
