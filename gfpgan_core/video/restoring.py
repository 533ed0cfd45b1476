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
from gfpgan_core.video.segment_folder import SegmentFolder, SegmentFrames
from gfpgan_core.video.segments import Encoding, write_segment
from gfpgan_core.video.source import Frame, Video, read_frames
from gfpgan_core.video.tracking import DetectedFrame, SteadyChoice, follow, is_cut, thumbnail

SEGMENT_FRAMES = 120
"""How many frames a killed run loses at most."""


@dataclass(frozen=True)
class TrackedFrame:
    """A frame with its faces, as detected and as tracked."""

    frame: Frame
    detected: list[Face]
    """By the detector, in this frame alone."""
    followed: dict[int, Face]
    """By the number of their track, with landmarks smoothed over time."""


@dataclass
class Outcome:
    """Counts of a restored video."""

    frames: int = 0
    with_faces: int = 0
    """Frames with faces that are restored."""
    tracks: set[int] = field(default_factory=set)
    """The numbers of the faces that were followed and restored."""


class _PresetDetector:
    """Returns faces that were detected before, in the order of the frames."""

    def __init__(self) -> None:
        self.queue: deque[list[Face]] = deque()

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        return Detection(self.queue.popleft())


class _Chooser:
    """Chooses which of each frame's faces are restored, and counts frames and tracks."""

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

    def __call__(self, one: TrackedFrame) -> list[Face]:
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
    work: SegmentFolder,
    options: RestoreOptions,
    encoding: Encoding,
    *,
    segment_frames: int = SEGMENT_FRAMES,
    on_frame: Callable[[], object] = lambda: None,
) -> Outcome:
    """Restore the segments that aren't done yet; call `on_frame` for each frame of the video.

    A resumed run writes the same frames as an uninterrupted one: the faces that an earlier run has
    detected are tracked again from the first frame.

    Raises:
        InputError: a frame or the options can't be used.
        WeightsError: the background network's weights can't be had.
        CropFailedError: the network gave no usable result for a frame.
        OSError: a segment can't be written.
    """
    preset = _PresetDetector()
    restorer_of_tracked = copy.copy(restorer)
    restorer_of_tracked.detector = preset
    chooser = _Chooser(options, video.upright_wh)
    done = work.done()
    tracked = tracked_frames(video, restorer.detector, options.min_score, _saved(work, done))
    for one in islice(tracked, done * segment_frames):
        chooser(one)
        on_frame()

    def frames_of(segment: SegmentFrames) -> Iterator[ImageU8]:
        """Yield the next segment's images; note their times and queue their faces to restore."""
        for one in islice(tracked, segment_frames):
            preset.queue.append(chooser(one))
            segment.pts.append(one.frame.pts)
            segment.durations.append(one.frame.duration)
            segment.faces.append(one.detected)
            yield one.frame.rgb
            on_frame()

    for number in range(done, math.ceil(video.frames / segment_frames)):
        segment = SegmentFrames([], [], [])
        with work.segment(number, segment) as path:
            results = restorer_of_tracked.restore_many(frames_of(segment), chooser.options)
            write_segment(path, (_as_stored(result, video) for result in results), encoding)
    return chooser.outcome


def tracked_frames(
    video: Video, detector: Detector, min_score: float, saved: Iterator[list[Face]]
) -> Iterator[TrackedFrame]:
    """Yield the video's frames with their faces; those that are `saved` aren't detected again."""
    waiting: deque[tuple[Frame, list[Face]]] = deque()

    def detected_frames() -> Iterator[DetectedFrame]:
        before = None
        for frame in read_frames(video):
            faces = next(saved, None)
            if faces is None:
                faces = detector.find(frame.rgb, min_score).faces
            now = thumbnail(frame.rgb)
            waiting.append((frame, faces))
            time_s = float(frame.pts * video.time_base)
            yield DetectedFrame(time_s, faces, before is not None and is_cut(before, now))
            before = now

    for followed in follow(detected_frames()):
        frame, detected = waiting.popleft()
        yield TrackedFrame(frame, detected, followed)


def _saved(work: SegmentFolder, segments: int) -> Iterator[list[Face]]:
    for number in range(segments):
        yield from work.frames_of(number).faces


def _is_in(face: Face, faces: list[Face]) -> bool:
    return any(face is one for one in faces)


def _as_stored(result: Restoration | Exception, video: Video) -> ImageU8:
    """Return the restored frame, rotated as the video stores it.

    Raises:
        Exception: the error that the frame's restoration ended with.
    """
    if isinstance(result, Exception):
        raise result
    return np.ascontiguousarray(np.rot90(result.image, -video.quarter_turns))
