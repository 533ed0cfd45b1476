"""One photo in, the restored photo out: the order of the work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch

from gfpgan_core import geometry, images
from gfpgan_core.align import Crop, align
from gfpgan_core.backends import load_backend
from gfpgan_core.background import load_background
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import Face, FaceDetector, load_detector, select
from gfpgan_core.errors import CropFailedError, InputError, WeightsError
from gfpgan_core.geometry import eye_distance
from gfpgan_core.images import ImageU8, Photo
from gfpgan_core.masks import Masker, load_masker, template_masks
from gfpgan_core.paste import RestoredFace, paste
from gfpgan_core.runtime import checked_device
from gfpgan_core.weights.load import Network, load, load_file

# Faces at once. On the CPU one fills the cores, and more only take memory: 0.5 GiB each in the
# full-size network.
_CPU_BATCH_FACES = 1
_GPU_BATCH_FACES = 8

# Photos that wait for a batch to fill, and that are decoded while the network runs.
_WAITING_MEGAPIXELS = 64
_READ_AHEAD = 2

FAILURES = (InputError, WeightsError, CropFailedError, MemoryError)
"""What can be wrong with one photo, while others can be restored."""

AnyPhoto = Photo | ImageU8 | Path | str
_T = TypeVar("_T")


@dataclass(frozen=True)
class Restoration:
    """The result for one photo."""

    image: ImageU8
    """(round(h * scale), round(w * scale), 3) RGB."""
    alpha: ImageU8 | None
    """(round(h * scale), round(w * scale)), if the photo had one."""
    format: images.Format
    """The input's own format, or PNG."""
    faces: list[Face]
    """Those that were restored; with `aligned`, none is detected and the list is empty."""
    crops: list[ImageU8]
    """The aligned faces before restoration, (size, size, 3)."""
    restored_crops: list[ImageU8]
    """And after it."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent in `detection`, `restoration`, `background` and `blending`."""

    def save(self, path: Path | str) -> Path:
        """Writes the image in the format of the path's suffix: png, jpg or webp.

        Raises:
            InputError: another suffix, or the file can't be written.
        """
        path = Path(path)
        suffix = path.suffix.lower().lstrip(".").replace("jpeg", "jpg")
        data = images.encode(self.image, self.alpha, self.format_for(suffix))
        images.write(path, data)
        return path

    def format_for(self, wanted: str) -> images.Format:
        """The format that `auto`, `png`, `jpg` or `webp` means for this result.

        Raises:
            InputError: another word.
        """
        return images.chosen_format(Photo(self.image, self.alpha, self.format), wanted)


class FaceRestorer:
    """A restoration network with its detector and masker; holds no state between photos.

    Example:
        restorer = FaceRestorer.from_release("compact")
        restorer.restore("face.jpg").save("restored.png")
    """

    def __init__(
        self,
        network: Network,
        detector: FaceDetector,
        masker: Masker = template_masks,
        device: str = "cpu",
        backend: str = "auto",
    ) -> None:
        self.face_size_px = network.config.face_size_px
        self.run = load_backend(network, backend, device)
        self.detector = detector
        self.masker = masker
        self.device = device

    @classmethod
    def from_release(
        cls,
        version: str = "compact",
        *,
        detector: str = "auto",
        mask: str = "auto",
        device: str | None = None,
        backend: str = "auto",
    ) -> FaceRestorer:
        """A restorer with the weights of a release, downloaded if they aren't there.

        Raises:
            InputError: unknown version, detector, mask, device or back end.
            WeightsError: weights can't be had or are damaged.
        """
        device = checked_device(device)
        network = load(version, device)
        masker = load_masker(mask, device)
        return cls(network, load_detector(detector, device), masker, device, backend)

    @classmethod
    def from_file(
        cls,
        path: Path | str,
        *,
        detector: str = "auto",
        mask: str = "auto",
        device: str | None = None,
        backend: str = "auto",
    ) -> FaceRestorer:
        """A restorer with weights of one's own, such as a training exports.

        Raises:
            InputError: unknown detector, mask, device or back end.
            WeightsError: unreadable, or not those of a GFPGAN generator.
        """
        device = checked_device(device)
        network = load_file(Path(path), device)
        masker = load_masker(mask, device)
        return cls(network, load_detector(detector, device), masker, device, backend)

    def restore(self, photo: AnyPhoto, options: RestoreOptions | None = None) -> Restoration:
        """The restored photo. An (H, W, 3) uint8 array is RGB.

        Raises:
            InputError: unusable photo or options.
            WeightsError: the background network's weights can't be had.
            CropFailedError: the network gave no usable result; nothing is returned unrestored.
        """
        work = self._look(_as_photo(photo), options or RestoreOptions())
        return self._finish(work, self._restore_crops([work]))

    def restore_many(
        self, photos: Iterable[AnyPhoto], options: RestoreOptions | None = None
    ) -> Iterator[Restoration | Exception]:
        """For each photo, in order, its restoration or the error (one of `FAILURES`) that it met.

        Photos are decoded while others are restored; on a GPU the faces of several share batches.
        """
        options = options or RestoreOptions()
        waiting: list[_Work | Exception] = []
        for opened in _read_ahead(photos):
            waiting.append(_attempt(lambda read=opened: self._look(read(), options)))  # type: ignore[misc]
            if _is_enough(waiting, self._batch_faces):
                yield from self._finish_all(waiting)
                waiting = []
        yield from self._finish_all(waiting)

    def _finish_all(self, waiting: list[_Work | Exception]) -> Iterator[Restoration | Exception]:
        works = [work for work in waiting if isinstance(work, _Work)]
        shared = _attempt(lambda: self._restore_crops(works))
        done = 0
        for work in waiting:
            if isinstance(work, Exception):
                yield work
                continue
            if isinstance(shared, Exception):  # of one of them: each on its own
                restored = _attempt(lambda w=work: self._restore_crops([w]))  # type: ignore[misc]
            else:
                restored = shared[done : done + len(work.crops)]
            done += len(work.crops)
            if isinstance(restored, Exception):
                yield restored
            else:
                yield _attempt(lambda w=work, r=restored: self._finish(w, r))  # type: ignore[misc]

    @property
    def _batch_faces(self) -> int:
        return _CPU_BATCH_FACES if torch.device(self.device).type == "cpu" else _GPU_BATCH_FACES

    def _look(self, photo: Photo, options: RestoreOptions) -> _Work:
        """The photo with the faces in it, cut out; with `aligned`, the photo is the crop."""
        height, width = photo.rgb.shape[:2]
        work = _Work(photo, options, options.output_size_wh(width, height))
        with work.clock("detection"):
            if options.aligned:
                if height != width:
                    raise InputError(
                        f"the photo is {width}x{height} px; an aligned face is square:"
                        " crop it, or leave `aligned` off so that faces are found"
                    )
                whole = geometry.resize(photo.rgb, (self.face_size_px, self.face_size_px))
                to_crop = geometry.scaling((width, height), (self.face_size_px, self.face_size_px))
                work.crops = [Crop(np.asarray(whole, np.uint8), to_crop)]
                return work
            faces = self.detector(photo.rgb, options.min_score)
            faces = [f for f in faces if eye_distance(f.landmarks) >= options.min_eye_distance_px]
            work.faces = select(faces, options.faces, (width, height))
            work.crops = [align(photo.rgb, face, self.face_size_px) for face in work.faces]
        return work

    def _restore_crops(self, works: list[_Work]) -> list[ImageU8]:
        """What the network makes of all their crops, one after the other, in batches.

        The time is shared out by the number of faces.

        Raises:
            CropFailedError: a value isn't finite.
        """
        started = time.perf_counter()
        crops = [crop.pixels for work in works for crop in work.crops]
        restored: list[ImageU8] = []
        for start in range(0, len(crops), self._batch_faces):
            batch = [images.to_pm1(crop) for crop in crops[start : start + self._batch_faces]]
            output = self.run(torch.stack(batch))
            if not output.isfinite().all():
                raise CropFailedError(
                    "the network gave values that are not finite for a face: its weights are"
                    " damaged, or the device computes wrongly (try --device cpu)"
                )
            restored += [images.from_pm1(image) for image in output]
        seconds = time.perf_counter() - started
        for work in works:
            work.clock.seconds["restoration"] = seconds * len(work.crops) / max(1, len(crops))
        return restored

    def _finish(self, work: _Work, restored: list[ImageU8]) -> Restoration:
        """The photo with its restored crops, at the size that was asked for."""
        photo, options, clock = work.photo, work.options, work.clock
        if photo.is_grey:
            restored = [images.grey(face) for face in restored]
        pixels = [crop.pixels for crop in work.crops]
        with clock("background"):
            if options.aligned:  # the crop is all there is
                mixed = cv2.addWeighted(restored[0], options.blend, pixels[0], 1 - options.blend, 0)
                canvas = np.asarray(geometry.resize(mixed, work.size_wh), np.uint8)
            else:
                canvas = self._enlarge(photo, options.background, work.size_wh)
        with clock("blending"):
            if not options.aligned:
                self._paste(canvas, work, restored)
            alpha = _resized_alpha(photo, work.size_wh)
        return Restoration(canvas, alpha, photo.format, work.faces, pixels, restored, clock.seconds)

    def _enlarge(self, photo: Photo, background: str, size_wh: tuple[int, int]) -> ImageU8:
        if background == "none":
            return np.asarray(geometry.resize(photo.rgb, size_wh), np.uint8)
        enlarged = load_background(background, self.device)(photo.rgb, size_wh)
        return images.grey(enlarged) if photo.is_grey else enlarged

    def _paste(self, canvas: ImageU8, work: _Work, restored: list[ImageU8]) -> None:
        options = work.options
        if not work.crops or options.blend == 0:
            return
        masks = self.masker(restored)
        faces = [
            RestoredFace(crop, face, mask)
            for crop, face, mask in zip(work.crops, restored, masks, strict=True)
        ]
        enlarged = options.background != "none"
        paste(canvas, work.photo.rgb, faces, blend=options.blend, enlarged=enlarged)


class _Clock:
    """Adds up the seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


@dataclass
class _Work:
    """A photo on its way."""

    photo: Photo
    options: RestoreOptions
    size_wh: tuple[int, int]
    """Of the result."""
    faces: list[Face] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    clock: _Clock = field(default_factory=_Clock)


def _is_enough(waiting: list[_Work | Exception], batch_faces: int) -> bool:
    """Whether a batch is full, or the photos that wait for it take much memory."""
    works = [work for work in waiting if isinstance(work, _Work)]
    pixels = sum(work.photo.rgb.shape[0] * work.photo.rgb.shape[1] for work in works)
    faces = sum(len(work.crops) for work in works)
    return faces >= batch_faces or pixels >= _WAITING_MEGAPIXELS * 1e6


def _attempt(action: Callable[[], _T]) -> _T | Exception:
    """What it gives, or what was wrong."""
    try:
        return action()
    except FAILURES as error:
        return error


def _read_ahead(photos: Iterable[AnyPhoto]) -> Iterator[Callable[[], Photo]]:
    """For each photo what gives it decoded, or raises; another thread decodes the next ones."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as reader:
        ahead: deque[Callable[[], Photo]] = deque()
        for photo in photos:
            ahead.append(reader.submit(_as_photo, photo).result)
            if len(ahead) > _READ_AHEAD:
                yield ahead.popleft()
        yield from ahead


def _as_photo(photo: AnyPhoto) -> Photo:
    if isinstance(photo, (str, Path)):
        return images.read(Path(photo))
    if isinstance(photo, Photo):
        return photo
    if not (isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3) or (
        photo.shape[2] != 3
    ):
        raise InputError("an image array must be RGB: uint8 of shape (height, width, 3)")
    images.check_input_size(photo.shape[1], photo.shape[0])
    return Photo(photo)


def _resized_alpha(photo: Photo, size_wh: tuple[int, int]) -> ImageU8 | None:
    if photo.alpha is None:
        return None
    return np.asarray(geometry.resize(photo.alpha, size_wh), np.uint8)
