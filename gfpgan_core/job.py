"""A photo on its way through the pipeline, with its faces, crops and times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gfpgan_core.align import Crop
from gfpgan_core.choose import LeftAlone
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detectors import Face
from gfpgan_core.images import ImageU8, Photo

# Photos that wait for a batch to fill.
_WAITING_MEGAPIXELS = 64


class Clock:
    """Measures how many seconds each named stage takes: `with clock("detection"):`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


@dataclass
class Job:
    """A photo with what the stages have found and made of it so far."""

    photo: Photo
    options: RestoreOptions
    size_wh: tuple[int, int]
    """Of the result."""
    enlarged: ImageU8 | None = None
    """The photo at the result's size, (H, W, 3), where the caller has it; else the background's
    network or interpolation makes it."""
    faces: list[Face] = field(default_factory=list)
    left_alone: list[LeftAlone] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    clock: Clock = field(default_factory=Clock)


def is_batch_full(waiting: list[Job | Exception], batch_faces: int) -> bool:
    """Return whether the photos' faces fill a batch, or the photos take much memory meanwhile."""
    jobs = [job for job in waiting if isinstance(job, Job)]
    pixels = sum(job.photo.rgb.shape[0] * job.photo.rgb.shape[1] for job in jobs)
    faces = sum(len(job.crops) for job in jobs)
    return faces >= batch_faces or pixels >= _WAITING_MEGAPIXELS * 1e6
