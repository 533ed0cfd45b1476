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
from gfpgan_core.video.segments import TimedSegment

_SETTINGS, _LOCK = "settings.json", "lock"


@dataclass
class SegmentFrames:
    """Times and detected faces of a segment's frames, in their order."""

    pts: list[int]
    durations: list[int]
    faces: list[list[Face]]
    """As detected, before they are tracked."""


@dataclass(frozen=True)
class SegmentFolder:
    """A folder of finished segments, locked by one run."""

    folder: Path

    def done(self) -> int:
        """Return how many segments are whole, from the first one on."""
        number = 0
        while self._video(number).is_file():
            number += 1
        return number

    @contextmanager
    def segment(self, number: int, frames: SegmentFrames) -> Iterator[Path]:
        """Yield the path to write a segment to; keep it, described by `frames`, once whole."""
        with whole_file(self._video(number)) as temporary:
            yield temporary
            # First: a segment that is there has its description.
            with whole_file(self._frames(number)) as description:
                description.write_text(json.dumps(_to_json(frames)), encoding="ascii")

    def frames_of(self, number: int) -> SegmentFrames:
        """Return the times and faces of a finished segment's frames."""
        return _from_json(json.loads(self._frames(number).read_text(encoding="ascii")))

    def timed(self, number: int) -> TimedSegment:
        """Return a finished segment's file, with its times."""
        frames = self.frames_of(number)
        return TimedSegment(self._video(number), frames.pts, frames.durations)

    def drop_segments(self) -> None:
        """Remove all segments, with their frames' times and faces."""
        for pattern in ("[0-9]*.mkv", "[0-9]*.json"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove what runs put into the folder, and the folder if nothing else is in it."""
        remove_partial_files(self.folder)
        self.drop_segments()
        for name in (_SETTINGS, _LOCK):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _video(self, number: int) -> Path:
        return self.folder / f"{number:06d}.mkv"

    def _frames(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def segment_folder_of(output: Path) -> Path:
    """Return where the segments of an output are kept."""
    return output.with_name(f".{output.name}.segments")


@contextmanager
def open_segment_folder(
    output: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[SegmentFolder]:
    """Lock and yield the segment folder of an output: a new one, or that of an earlier run.

    Args:
        output: The file that the segments will become.
        settings: Everything that the segments depend on; segments of other settings are not reused.
        resume: Reuse the segments of an earlier run.
        overwrite: Remove the segments of an earlier run that are not reused.

    Raises:
        InputError: another process has the lock, or there are segments, to be neither reused nor
            removed.
        OSError: the folder can't be written.
    """
    from filelock import FileLock, Timeout

    work = SegmentFolder(segment_folder_of(output))
    work.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another run is at work on {output}: wait for it, or end it") from error
    try:
        _reuse_or_clear(work, output, settings, resume=resume, overwrite=overwrite)
        yield work
    finally:
        if not work.done():  # nothing is lost with it
            work.remove()
        lock.release()  # last: what another run makes there from now on is its own


def _reuse_or_clear(
    work: SegmentFolder, output: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
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


def _to_json(segment: SegmentFrames) -> dict[str, Any]:
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
        for frame in segment.faces
    ]
    return {"pts": segment.pts, "durations": segment.durations, "faces": faces}


def _from_json(read: dict[str, Any]) -> SegmentFrames:
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
    return SegmentFrames(read["pts"], read["durations"], faces)
