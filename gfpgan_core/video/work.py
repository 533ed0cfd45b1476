"""The folder beside the output that keeps whole segments until the video is done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.files import remove_partial_files, whole_file
from gfpgan_core.video.segments import Timed

_SETTINGS, _LOCK = "settings.json", "lock"


@dataclass
class Seen:
    """What was found out about a segment's frames, in their order."""

    pts: list[int]
    durations: list[int]
    faces: list[list[Face]]
    """As detected, before they are followed."""


@dataclass(frozen=True)
class Work:
    """A folder of finished segments, which a run has for itself."""

    folder: Path

    def done(self) -> int:
        """Return how many segments are whole, from the first one on."""
        number = 0
        while self._video(number).is_file():
            number += 1
        return number

    @contextmanager
    def segment(self, number: int, seen: Seen) -> Iterator[Path]:
        """Yield the path to write a segment to; it is kept, with what was seen, once whole."""
        with whole_file(self._video(number)) as temporary:
            yield temporary
            # First: a segment that is there has its description.
            with whole_file(self._seen(number)) as description:
                description.write_text(json.dumps(_to_json(seen)), encoding="ascii")

    def seen(self, number: int) -> Seen:
        """Return what was seen of a finished segment's frames."""
        return _from_json(json.loads(self._seen(number).read_text(encoding="ascii")))

    def timed(self, number: int) -> Timed:
        """Return a finished segment's file, with its times."""
        seen = self.seen(number)
        return Timed(self._video(number), seen.pts, seen.durations)

    def drop_segments(self) -> None:
        """Remove all segments, with what was seen of their frames."""
        for pattern in ("[0-9]*.mkv", "[0-9]*.json"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder with what runs put into it; what anyone else did stays."""
        remove_partial_files(self.folder)
        self.drop_segments()
        for name in (_SETTINGS, _LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _video(self, number: int) -> Path:
        return self.folder / f"{number:06d}.mkv"

    def _seen(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def work_folder(output: Path) -> Path:
    """Return where the segments of an output are kept."""
    return output.with_name(f".{output.name}.segments")


@contextmanager
def kept_work(
    output: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[Work]:
    """Yield the work on an output, this process's alone: new, or that of an earlier run.

    Args:
        output: The file that the segments will become.
        settings: What the segments depend on: those of other settings are not taken up.
        resume: Take up what an earlier run has left.
        overwrite: Remove what an earlier run has left, where it isn't taken up.

    Raises:
        InputError: another process works on it, or it would be neither taken up nor removed.
        OSError: the folder can't be written.
    """
    from filelock import FileLock, Timeout

    work = Work(work_folder(output))
    work.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another run is at work on {output}: wait for it, or end it") from error
    try:
        _take_up(work, output, settings, resume=resume, overwrite=overwrite)
        yield work
    finally:
        if not work.done():  # nothing is lost with it
            work.remove()
        lock.release()  # last: what another run makes there from now on is its own


def _take_up(
    work: Work, output: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> None:
    remove_partial_files(work.folder)
    path = work.folder / _SETTINGS
    wanted = json.loads(json.dumps(settings))
    done = work.done()
    if done:
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        others = [name for name in wanted if before.get(name) != wanted[name]]
        if resume and not others:
            return
        if not overwrite:
            what = f"of other settings ({', '.join(others)})" if resume else "of an earlier run"
            how = "repeat its settings" if resume else "--resume goes on with it"
            raise InputError(
                f"there is work {what} on {output}, {done} segments: {how}, or --overwrite begins"
                " anew"
            )
        work.drop_segments()
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1), encoding="utf-8")


def _to_json(seen: Seen) -> dict[str, Any]:
    faces = [
        [
            {
                "box": face.box_xyxy.tolist(),
                "landmarks": face.landmarks.tolist(),
                "score": face.score,
                "close_up_score": face.close_up_score,
                "is_placed": face.is_placed,
            }
            for face in frame
        ]
        for frame in seen.faces
    ]
    return {"pts": seen.pts, "durations": seen.durations, "faces": faces}


def _from_json(read: dict[str, Any]) -> Seen:
    faces = [
        [
            Face(
                np.array(one["box"]),
                np.array(one["landmarks"]),
                one["score"],
                one["close_up_score"],
                one["is_placed"],
            )
            for one in frame
        ]
        for frame in read["faces"]
    ]
    return Seen(read["pts"], read["durations"], faces)
