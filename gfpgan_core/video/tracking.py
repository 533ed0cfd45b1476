"""Follow faces from frame to frame, and smooth over time where each of them lies.

A detector places the landmarks of a still face a little differently in each frame, and the aligned
crop jitters with them. Only where the crop is cut is smoothed here: no pixel of another frame gets
into a frame.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core import geometry
from gfpgan_core.config import FaceChoice
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import Points
from gfpgan_core.images import ImageU8

# Standard deviation of the weights in time. docs/video.md has the jitter at others.
SMOOTHING_S = 0.08
# Frames on each side that take part; as many are held in memory until a face in them is placed.
LOOK_AHEAD = 8
# Frames without the face that don't end its track: a face that a detector misses now and then
# would flicker.
MAX_GAP = 4
# Of a face in the next frame, in eye distances: heads move less, and neighbors are farther apart.
_MAX_MOVE = 1.0
_MAX_GROWTH = 1.5
# A face whose close-ups don't agree with the first look is misplaced by up to half of its size.
_UNSURE_WEIGHT = 1e-3

# Mean difference of two frames' thumbnails, in gray levels, from which on there is a cut between
# them. The sample moved by a twentieth of its width: 20; mirrored, upside down or enlarged: 63 to
# 76. Too many cuts cost a little jitter only.
_CUT_LEVELS = 25.0
_THUMBNAIL_WH = (8, 8)

# How much better another face must be before the choice changes: else two faces of one size would
# be restored in turns.
_SWITCH_RATIO = 1.5


@dataclass(frozen=True)
class DetectedFrame:
    """The faces that the detector found in one frame."""

    time_s: float
    faces: list[Face]
    is_cut: bool = False
    """Whether a new shot begins with the frame."""


@dataclass(frozen=True)
class _Sample:
    index: int
    time_s: float
    face: Face
    points: Points
    """(5, 2): where the template's landmarks lie in the frame, by the face's own alignment."""


@dataclass(eq=False)
class _Track:
    number: int
    samples: deque[_Sample] = field(default_factory=deque)

    @property
    def last(self) -> _Sample:
        return self.samples[-1]


def follow(frames: Iterable[DetectedFrame]) -> Iterator[dict[int, Face]]:
    """Yield each frame's faces by the number of their track, placed smoothly.

    Tracks are numbered from 1. The output lags `LOOK_AHEAD` frames behind the input. A face that
    was missed in up to `MAX_GAP` frames is interpolated between its neighbors in time.
    """
    tracks: list[_Track] = []
    alive: list[_Track] = []
    times: deque[float] = deque()
    count = done = 0
    for index, frame in enumerate(frames):
        times.append(frame.time_s)
        alive = [] if frame.is_cut else [t for t in alive if index - t.last.index <= MAX_GAP + 1]
        for track, sample in _matched(alive, _samples(index, frame)):
            if track is None:
                count += 1
                track = _Track(count)
                tracks.append(track)
                alive.append(track)
            track.samples.append(sample)
        if index >= LOOK_AHEAD:
            yield _faces_at(tracks, done, times.popleft())
            done += 1
            tracks = [t for t in tracks if t in alive or t.last.index >= done]
    while times:
        yield _faces_at(tracks, done, times.popleft())
        done += 1


def _samples(index: int, frame: DetectedFrame) -> list[_Sample]:
    samples = []
    for face in frame.faces:
        try:
            image_from_crop = geometry.inverse(face.crop_from_image)
        except InputError:  # landmarks on one spot: no face to follow
            continue
        points = geometry.apply(image_from_crop, geometry.TEMPLATE_LANDMARKS)
        samples.append(_Sample(index, frame.time_s, face, points))
    return samples


def _matched(
    tracks: list[_Track], samples: list[_Sample]
) -> Iterator[tuple[_Track | None, _Sample]]:
    """Yield each sample with the track that it continues, nearest pairs first."""
    pairs = [
        (distance, t, s)
        for t, track in enumerate(tracks)
        for s, sample in enumerate(samples)
        if (distance := _distance(track.last, sample)) <= _MAX_MOVE
    ]
    taken: dict[int, _Track] = {}
    for _, t, s in sorted(pairs):
        if s not in taken and not any(tracks[t] is other for other in taken.values()):
            taken[s] = tracks[t]
    for s, sample in enumerate(samples):
        yield taken.get(s), sample


def _distance(before: _Sample, now: _Sample) -> float:
    """Return how far the face moved, in eye distances; infinite if it can't be the same."""
    growth = now.face.eye_distance_px / before.face.eye_distance_px
    if not 1 / _MAX_GROWTH <= growth <= _MAX_GROWTH:
        return math.inf
    moved = np.linalg.norm(now.points.mean(axis=0) - before.points.mean(axis=0))
    return float(moved) / before.face.eye_distance_px


def _faces_at(tracks: list[_Track], index: int, time_s: float) -> dict[int, Face]:
    """Return the faces of one frame; forgets samples that no later frame needs."""
    faces = {}
    for track in tracks:
        samples = track.samples
        while len(samples) > 1 and samples[0].index < index - LOOK_AHEAD:
            samples.popleft()
        if samples[0].index <= index <= samples[-1].index:
            near = [one for one in samples if one.index <= index + LOOK_AHEAD]
            nearest = min(near, key=lambda one: abs(one.index - index))
            points = smoothed(
                np.array([one.time_s - time_s for one in near]),
                np.array([one.points for one in near]),
                np.array([1.0 if one.face.is_placed else _UNSURE_WEIGHT for one in near]),
            )
            faces[track.number] = dataclasses.replace(nearest.face, landmarks=points)
    return faces


def smoothed(
    times_s: NDArray[np.float64],
    points: NDArray[np.float64],
    weights: NDArray[np.float64],
    sigma_s: float = SMOOTHING_S,
) -> Points:
    """Return the points at time 0: those of the straight motion that fits best around it.

    A motion at constant speed comes back as it is, at a track's ends as well.

    Args:
        times_s: (n,), before (negative) and after.
        points: (n, k, 2).
        weights: (n,), how much each is trusted, beside its nearness in time.
        sigma_s: standard deviation of the weights in time.
    """
    w = weights * np.exp(-0.5 * (times_s / sigma_s) ** 2)
    total, first, second = w.sum(), (w * times_s).sum(), (w * times_s**2).sum()
    spread = total * second - first**2
    if spread <= 1e-9 * total * second or second == 0:  # one time only: no speed to be known
        shares = w / total
    else:
        shares = w * (second - first * times_s) / spread
    return np.asarray(np.tensordot(shares, points, axes=1), np.float64)


def thumbnail(image: ImageU8) -> NDArray[np.float32]:
    """Return (8, 8, 3), in which cuts are found."""
    return cv2.resize(image, _THUMBNAIL_WH, interpolation=cv2.INTER_AREA).astype(np.float32)


def is_cut(before: NDArray[np.float32], now: NDArray[np.float32]) -> bool:
    """Return whether two frames, by their thumbnails, belong to different shots."""
    return bool(np.abs(now - before).mean() > _CUT_LEVELS)


class SteadyChoice:
    """Chooses the faces to restore, and keeps to one face as long as none is much better."""

    def __init__(self, which: FaceChoice, size_wh: tuple[int, int]) -> None:
        self._which = which
        self._center = (np.array(size_wh) - 1) / 2
        self._chosen = 0

    def choose(self, faces: dict[int, Face]) -> list[Face]:
        """Return those of a frame's faces, by the number of their track, that are restored."""
        if self._which == "all" or not faces:
            return list(faces.values())
        rank = self._size if self._which == "largest" else self._nearness
        best = max(faces, key=lambda number: rank(faces[number]))
        current = faces.get(self._chosen)
        if current is None or rank(faces[best]) > _SWITCH_RATIO * rank(current):
            self._chosen = best
        return [faces[self._chosen]]

    def _size(self, face: Face) -> float:
        return face.eye_distance_px

    def _nearness(self, face: Face) -> float:
        distance = np.linalg.norm(face.landmarks.mean(axis=0) - self._center)
        return 1 / (1 + float(distance))
