"""Restore a video: its frames through the pipeline, their faces followed, segment by segment."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from gfpgan_core.choose import choose
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import Detection, Detector
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.result import Restoration
from gfpgan_core.video.segments import Encoding, write_segment
from gfpgan_core.video.source import Frame, Video, read_frames
from gfpgan_core.video.tracking import Look, SteadyChoice, follow, is_cut, thumbnail
from gfpgan_core.video.work import Seen, Work

SEGMENT_FRAMES = 120
"""What a killed run loses at most."""


@dataclass(frozen=True)
class Known:
    """A frame with its faces."""

    frame: Frame
    detected: list[Face]
    """By the detector, in this frame alone."""
    followed: dict[int, Face]
    """By the number of their track, placed smoothly."""


@dataclass
class Outcome:
    """What came of a video."""

    frames: int = 0
    with_faces: int = 0
    """Frames with faces that are restored."""
    tracks: set[int] = field(default_factory=set)
    """The numbers of the faces that were followed and restored."""


class _Given:
    """A detector that answers with faces that are known already, frame by frame."""

    def __init__(self) -> None:
        self.ahead: deque[list[Face]] = deque()

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        return Detection(self.ahead.popleft())


class _Chooser:
    """Says which of each frame's faces are restored, and counts."""

    def __init__(self, options: RestoreOptions, size_wh: tuple[int, int]) -> None:
        if isinstance(options.faces, tuple):
            raise InputError(
                "faces are numbered in one picture, and move in a video: choose all, largest or"
                " center"
            )
        self.options = dataclasses.replace(options, faces="all")
        """For a frame whose faces are chosen."""
        self.outcome = Outcome()
        self._steady = SteadyChoice(options.faces, size_wh)
        self._size_wh = size_wh

    def __call__(self, one: Known) -> list[Face]:
        of_size, _ = choose(Detection([*one.followed.values()]), self.options, self._size_wh)
        kept = {number: face for number, face in one.followed.items() if _is_in(face, of_size)}
        chosen = self._steady.choose(kept)
        self.outcome.frames += 1
        self.outcome.with_faces += bool(chosen)
        self.outcome.tracks |= {number for number, face in kept.items() if _is_in(face, chosen)}
        return chosen


def restore_video(
    restorer: FaceRestorer,
    video: Video,
    work: Work,
    options: RestoreOptions,
    encoding: Encoding,
    *,
    segment_frames: int = SEGMENT_FRAMES,
    on_frame: Callable[[], object] = lambda: None,
) -> Outcome:
    """Restore the segments that aren't done yet; call `on_frame` for each frame, done ones as well.

    The same frames come out whether a run did them all or took up the work of another: what the
    other detected is followed again from the start.

    Raises:
        InputError: a frame or the options can't be used.
        WeightsError: the background network's weights can't be had.
        CropFailedError: the network gave no usable result for a frame.
        OSError: a segment can't be written.
    """
    given = _Given()
    with_given = copy.copy(restorer)
    with_given.detector = given
    chooser = _Chooser(options, video.upright_wh)
    done = work.done()
    known = known_frames(video, restorer.detector, options.min_score, _saved(work, done))
    for one in islice(known, done * segment_frames):
        chooser(one)
        on_frame()

    def handed(seen: Seen) -> Iterator[ImageU8]:
        """Yield a segment's frames, and hand their faces to the detector."""
        for one in islice(known, segment_frames):
            given.ahead.append(chooser(one))
            seen.pts.append(one.frame.pts)
            seen.durations.append(one.frame.duration)
            seen.faces.append(one.detected)
            yield one.frame.rgb
            on_frame()

    for number in range(done, math.ceil(video.frames / segment_frames)):
        seen = Seen([], [], [])
        with work.segment(number, seen) as path:
            results = with_given.restore_many(handed(seen), chooser.options)
            write_segment(path, (_coded(result, video) for result in results), encoding)
    return chooser.outcome


def known_frames(
    video: Video, detector: Detector, min_score: float, saved: Iterator[list[Face]]
) -> Iterator[Known]:
    """Yield the video's frames with their faces; those that are `saved` aren't detected again."""
    waiting: deque[tuple[Frame, list[Face]]] = deque()

    def looks() -> Iterator[Look]:
        before = None
        for frame in read_frames(video):
            faces = next(saved, None)
            if faces is None:
                faces = detector.find(frame.rgb, min_score).faces
            now = thumbnail(frame.rgb)
            waiting.append((frame, faces))
            time_s = float(frame.pts * video.time_base)
            yield Look(time_s, faces, before is not None and is_cut(before, now))
            before = now

    for followed in follow(looks()):
        frame, detected = waiting.popleft()
        yield Known(frame, detected, followed)


def _saved(work: Work, segments: int) -> Iterator[list[Face]]:
    for number in range(segments):
        yield from work.seen(number).faces


def _is_in(face: Face, faces: list[Face]) -> bool:
    return any(face is one for one in faces)


def _coded(result: Restoration | Exception, video: Video) -> ImageU8:
    """Return the restored frame, turned back to how the video has it.

    Raises:
        Exception: what the frame met.
    """
    if isinstance(result, Exception):
        raise result
    return np.ascontiguousarray(np.rot90(result.image, -video.quarter_turns))
