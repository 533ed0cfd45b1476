"""The order of the work: photo, faces, crops, restored crops, restored photo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import cv2
import numpy as np
import torch

from gfpgan_core import geometry, images
from gfpgan_core.align import Aligner, Crop, align
from gfpgan_core.backends import load_backend
from gfpgan_core.background import face_upscale, load_background
from gfpgan_core.choose import choose, find
from gfpgan_core.config import AUTO_SCALE, RestoreOptions
from gfpgan_core.damage import damage_of
from gfpgan_core.detect import Detector, load_detector
from gfpgan_core.errors import CropFailedError, InputError
from gfpgan_core.images import ImageU8, Photo
from gfpgan_core.images.incoming import AnyPhoto, as_photo, prepared, read_ahead
from gfpgan_core.images.interlace import is_interlaced
from gfpgan_core.job import Job, is_batch_full
from gfpgan_core.masks import Masker, load_masker, template_masks
from gfpgan_core.paste import Paster, RestoredFace, paste
from gfpgan_core.result import Restoration
from gfpgan_core.runtime import checked_device
from gfpgan_core.weights.load import Network, load, load_file

# Faces at once. On the CPU one fills the cores, and each more takes up to 0.5 GiB.
CPU_BATCH_FACES = 1
_GPU_BATCH_FACES = 8

_P = ParamSpec("_P")
_T = TypeVar("_T")


class FaceRestorer:
    """A restoration network with its detector and masker; holds no state between photos.

    Example:
        restorer = FaceRestorer.from_release("compact")
        restorer.restore("face.jpg").save("restored.png")
    """

    def __init__(
        self,
        network: Network,
        detector: Detector,
        masker: Masker = template_masks,
        device: str = "cpu",
        backend: str = "auto",
        *,
        align: Aligner = align,
        paste: Paster = paste,
    ) -> None:
        self.face_size_px = network.config.face_size_px
        self.run = load_backend(network, backend, device)
        self.detector = detector
        self.masker = masker
        self.device = device
        self.align = align
        self.paste = paste

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
        """Build a restorer with the weights of a release, downloaded if they are missing.

        Raises:
            InputError: unknown version, detector, mask, device or back end.
            WeightsError: weights can't be had or are damaged.
        """
        device = checked_device(device)
        return cls._with_parts(load(version, device), detector, mask, device, backend)

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
        """Build a restorer with weights of your own, such as a training exports.

        Raises:
            InputError: unknown detector, mask, device or back end.
            WeightsError: unreadable, or not those of a GFPGAN generator.
        """
        device = checked_device(device)
        return cls._with_parts(load_file(Path(path), device), detector, mask, device, backend)

    @classmethod
    def _with_parts(
        cls, network: Network, detector: str, mask: str, device: str, backend: str
    ) -> FaceRestorer:
        masker = load_masker(mask, device)
        return cls(network, load_detector(detector, device), masker, device, backend)

    def restore(
        self,
        photo: AnyPhoto,
        options: RestoreOptions | None = None,
        *,
        enlarged: ImageU8 | None = None,
    ) -> Restoration:
        """Restore one photo: a path, a decoded `Photo`, or an (H, W, 3) uint8 RGB array.

        Args:
            photo: what is restored.
            options: how.
            enlarged: the photo at the result's size, (H, W, 3) RGB, in place of what
                `options.background` makes. It becomes the result's image: it is written to.

        Raises:
            InputError: unusable photo or options, or `enlarged` isn't of the result's size.
            WeightsError: the background network's weights can't be had.
            CropFailedError: the network gave no usable result; nothing is returned unrestored.
        """
        options = options or RestoreOptions()
        job = self._find_faces(as_photo(photo, options.page), options)
        if enlarged is not None and enlarged.shape != (*job.size_wh[::-1], 3):
            raise InputError(
                f"the enlarged photo has shape {enlarged.shape}; the result is"
                f" {job.size_wh[0]}x{job.size_wh[1]} px"
            )
        job.enlarged = enlarged
        return self._restore_alone(job)

    def restore_many(
        self, photos: Iterable[AnyPhoto], options: RestoreOptions | None = None
    ) -> Iterator[Restoration | Exception]:
        """Yield for each photo, in order, its restoration or the error that it met.

        An error of one photo (`InputError`, `WeightsError`, `CropFailedError`, `MemoryError`, or a
        defect of ours) doesn't stop the others.
        Photos are decoded while others are restored; on a GPU the faces of several share batches.
        """
        options = options or RestoreOptions()
        waiting: list[Job | Exception] = []
        for read in read_ahead(photos, options.page):
            waiting.append(_attempt(self._read_and_find_faces, read, options))
            if is_batch_full(waiting, self._batch_faces):
                yield from self._restore_waiting(waiting)
                waiting = []
        yield from self._restore_waiting(waiting)

    def _read_and_find_faces(self, read: Callable[[], Photo], options: RestoreOptions) -> Job:
        return self._find_faces(read(), options)

    def _restore_waiting(self, waiting: list[Job | Exception]) -> Iterator[Restoration | Exception]:
        """Yield the results of the waiting photos, their crops restored in shared batches."""
        jobs = [job for job in waiting if isinstance(job, Job)]
        shared = _attempt(self._restore_crops, jobs)
        done = 0
        for job in waiting:
            if isinstance(job, Exception):
                yield job
            elif isinstance(shared, Exception):  # one photo's failure: each on its own
                yield _attempt(self._restore_alone, job)
            else:
                yield _attempt(self._compose, job, shared[done : done + len(job.crops)])
                done += len(job.crops)

    def _restore_alone(self, job: Job) -> Restoration:
        return self._compose(job, self._restore_crops([job]))

    @property
    def _batch_faces(self) -> int:
        return CPU_BATCH_FACES if torch.device(self.device).type == "cpu" else _GPU_BATCH_FACES

    def _find_faces(self, photo: Photo, options: RestoreOptions) -> Job:
        """Find and cut out the photo's faces; with `aligned`, the whole photo is the one crop."""
        height, width = photo.rgb.shape[:2]
        size_wh = options.output_size_wh(width, height)
        photo = prepared(photo, options)
        job = Job(photo, options, size_wh)
        with job.clock("detection"):
            if options.aligned:
                if height != width:
                    raise InputError(
                        f"the photo is {width}x{height} px; an aligned face is square:"
                        " crop it, or leave `aligned` off so that faces are found"
                    )
                whole = geometry.resize(photo.rgb, (self.face_size_px, self.face_size_px))
                to_crop = geometry.scaling((width, height), (self.face_size_px, self.face_size_px))
                job.crops = [Crop(np.asarray(whole, np.uint8), to_crop)]
                return job
            found = find(self.detector, photo.rgb, options)
            job.faces, job.left_alone = choose(found, options, (width, height))
            job.crops = [self.align(photo.rgb, face, self.face_size_px) for face in job.faces]
        return job

    def _restore_crops(self, jobs: list[Job]) -> list[ImageU8]:
        """Return the restored crops of all jobs, in order, run in batches.

        The time is divided among the jobs in proportion to their faces.

        Raises:
            CropFailedError: a value isn't finite.
        """
        started = time.perf_counter()
        crops = [crop.pixels for job in jobs for crop in job.crops]
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
        for job in jobs:
            job.clock.seconds["restoration"] = seconds * len(job.crops) / max(1, len(crops))
        return restored

    def _compose(self, job: Job, restored: list[ImageU8]) -> Restoration:
        """Paste the restored crops into the photo, at the size that was asked for."""
        photo, options, clock = job.photo, job.options, job.clock
        pixels = [crop.pixels for crop in job.crops]
        if options.keep_gray:
            scales = [geometry.scale_of(crop.crop_from_image) for crop in job.crops]
            restored = list(map(images.keep_gray_face, restored, pixels, scales))
        damages = [damage_of(crop) for crop in pixels]
        blends = [one.blend if options.blend == "auto" else options.blend for one in damages]
        with clock("background"):
            if options.aligned:  # the crop is all there is
                mixed = cv2.addWeighted(restored[0], blends[0], pixels[0], 1 - blends[0], 0)
                upscaled = self._upscale_faces(job, [np.asarray(mixed, np.uint8)], blends)
                whole = mixed if upscaled[0] is None else upscaled[0]
                canvas = np.asarray(geometry.resize(whole, job.size_wh), np.uint8)
            else:
                upscaled = self._upscale_faces(job, restored, blends)
                canvas = self._enlarge(job)
        with clock("blending"):
            if not options.aligned:
                self._paste(canvas, job, restored, blends, upscaled)
            alpha = _resized_alpha(photo, job.size_wh)
        scale = options.scale_for(photo.rgb.shape[1], photo.rgb.shape[0])
        return Restoration(
            canvas,
            alpha,
            photo.format,
            job.faces,
            pixels,
            restored,
            clock.seconds,
            left_alone=job.left_alone,
            scale=scale,
            is_scale_limited=options.scale == "auto" and scale < AUTO_SCALE,
            dpi=photo.dpi and (photo.dpi[0] * scale, photo.dpi[1] * scale),
            page=photo.page,
            pages=photo.pages,
            is_interlaced=is_interlaced(photo.rgb),
            metadata=photo.metadata,
            damages=damages,
            blends=blends,
            upscaled=[face is not None for face in upscaled] if options.upscale_faces else [],
        )

    def _enlarge(self, job: Job) -> ImageU8:
        if job.enlarged is not None:
            return job.enlarged
        if job.options.background == "none":
            return np.asarray(geometry.resize(job.photo.rgb, job.size_wh), np.uint8)
        return self._enlarge_by_network(job.options, job.photo.rgb, job.size_wh)

    def _enlarge_by_network(
        self, options: RestoreOptions, rgb: ImageU8, size_wh: tuple[int, int]
    ) -> ImageU8:
        enlarged = load_background(options.background, self.device)(rgb, size_wh)
        return images.keep_gray(enlarged, rgb) if options.keep_gray else enlarged

    def _upscale_faces(
        self, job: Job, faces: list[ImageU8], blends: list[float]
    ) -> list[ImageU8 | None]:
        """Return the faces, (size, size, 3), enlarged by the background's network.

        None where that isn't asked for, where the result shows no more pixels than the face has,
        and where nothing of the face is pasted.
        """
        upscaled: list[ImageU8 | None] = [None] * len(faces)
        if not job.options.upscale_faces:
            return upscaled
        scale = job.options.scale_for(job.photo.rgb.shape[1], job.photo.rgb.shape[0])
        for number, (crop, face) in enumerate(zip(job.crops, faces, strict=True)):
            factor = face_upscale(crop.crop_from_image, scale)
            if factor > 1 and blends[number] > 0:
                side = factor * len(face)
                upscaled[number] = self._enlarge_by_network(job.options, face, (side, side))
        return upscaled

    def _paste(
        self,
        canvas: ImageU8,
        job: Job,
        restored: list[ImageU8],
        blends: list[float],
        upscaled: list[ImageU8 | None],
    ) -> None:
        if not any(blends):
            return
        masks = self.masker(restored)
        faces = [
            RestoredFace(crop, face, mask * np.float32(blend), larger)
            for crop, face, mask, blend, larger in zip(
                job.crops, restored, masks, blends, upscaled, strict=True
            )
            if blend > 0
        ]
        enlarged = job.options.background != "none" or job.enlarged is not None
        self.paste(canvas, job.photo.rgb, faces, blend=1, enlarged=enlarged)


def _attempt(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T | Exception:
    """Return the function's result, or the error that it raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error


def _resized_alpha(photo: Photo, size_wh: tuple[int, int]) -> ImageU8 | None:
    if photo.alpha is None:
        return None
    return np.asarray(geometry.resize(photo.alpha, size_wh), np.uint8)
