"""One photo in, the restored photo out: the order of the work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from gfpgan_core import geometry, images
from gfpgan_core.align import Crop, align
from gfpgan_core.backends import load_backend
from gfpgan_core.background import load_background
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import Face, FaceDetector, load_detector, select
from gfpgan_core.errors import CropFailedError, InputError
from gfpgan_core.geometry import eye_distance
from gfpgan_core.images import ImageU8, Photo
from gfpgan_core.masks import Masker, load_masker, template_masks
from gfpgan_core.paste import RestoredFace, paste
from gfpgan_core.weights import Network, load, load_file

_BATCH_FACES = 4  # 512 px in fp32: about 1 GiB of activations in the full-size network


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
        self.network = network
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

    def restore(
        self, photo: Photo | ImageU8 | Path | str, options: RestoreOptions | None = None
    ) -> Restoration:
        """The restored photo. An (H, W, 3) uint8 array is RGB.

        Raises:
            InputError: unusable photo or options.
            WeightsError: the background network's weights can't be had.
            CropFailedError: the network gave no usable result; nothing is returned unrestored.
        """
        photo = _as_photo(photo)
        options = options or RestoreOptions()
        height, width = photo.rgb.shape[:2]
        size_wh = options.output_size_wh(width, height)
        if options.aligned:
            return self._restore_aligned(photo, options, size_wh)

        clock = _Clock()
        with clock("detection"):
            faces = self.detector(photo.rgb, options.min_score)
            faces = [f for f in faces if eye_distance(f.landmarks) >= options.min_eye_distance_px]
            faces = select(faces, options.faces, (width, height))
            crops = [align(photo.rgb, face, self._size_px) for face in faces]
        with clock("restoration"):
            restored = self._restore_crops([crop.pixels for crop in crops], photo.is_grey)
        with clock("background"):
            canvas = self._enlarge(photo, options.background, size_wh)
        with clock("blending"):
            self._paste(canvas, photo, crops, restored, options)
            alpha = _resized_alpha(photo, size_wh)
        return Restoration(
            canvas,
            alpha,
            photo.format,
            faces,
            [crop.pixels for crop in crops],
            restored,
            clock.seconds,
        )

    @property
    def _size_px(self) -> int:
        return self.network.config.face_size_px

    def _restore_aligned(
        self, photo: Photo, options: RestoreOptions, size_wh: tuple[int, int]
    ) -> Restoration:
        height, width = photo.rgb.shape[:2]
        if height != width:
            raise InputError(
                f"the photo is {width}x{height} px; an aligned face is square:"
                " crop it, or leave `aligned` off so that faces are found"
            )
        clock = _Clock()
        size = (self._size_px, self._size_px)
        crop = geometry.resize(photo.rgb, size)
        with clock("restoration"):
            (restored,) = self._restore_crops([crop], photo.is_grey)
        with clock("blending"):
            mixed = cv2.addWeighted(restored, options.blend, crop, 1 - options.blend, 0)
            image = np.asarray(geometry.resize(mixed, size_wh), np.uint8)
            alpha = _resized_alpha(photo, size_wh)
        seconds = {"detection": 0.0, "background": 0.0} | clock.seconds
        return Restoration(image, alpha, photo.format, [], [crop], [restored], seconds)

    def _restore_crops(self, crops: list[ImageU8], grey: bool) -> list[ImageU8]:
        """The network's crops, in batches; those of a grey photo are grey."""
        restored: list[ImageU8] = []
        for start in range(0, len(crops), _BATCH_FACES):
            batch = torch.stack([images.to_pm1(c) for c in crops[start : start + _BATCH_FACES]])
            output = self.run(batch)
            if not output.isfinite().all():
                raise CropFailedError(
                    "the network gave values that are not finite for a face: its weights are"
                    " damaged, or the device computes wrongly (try --device cpu)"
                )
            restored += [images.from_pm1(image) for image in output]
        if grey:
            restored = [images.grey(face) for face in restored]
        return restored

    def _enlarge(self, photo: Photo, background: str, size_wh: tuple[int, int]) -> ImageU8:
        if background == "none":
            return np.asarray(geometry.resize(photo.rgb, size_wh), np.uint8)
        enlarged = load_background(background, self.device)(photo.rgb, size_wh)
        return images.grey(enlarged) if photo.is_grey else enlarged

    def _paste(
        self,
        canvas: ImageU8,
        photo: Photo,
        crops: list[Crop],
        restored: list[ImageU8],
        options: RestoreOptions,
    ) -> None:
        if not crops or options.blend == 0:
            return
        masks = self.masker(restored)
        faces = [
            RestoredFace(crop, face, mask)
            for crop, face, mask in zip(crops, restored, masks, strict=True)
        ]
        paste(canvas, photo.rgb, faces, blend=options.blend, enlarged=options.background != "none")


class _Clock:
    """Adds up the seconds of named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def best_device() -> str:
    """`cuda` where there is one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(device: str | None) -> str:
    """The device named, or the best one.

    Raises:
        InputError: there is no such device here.
    """
    if device is None:
        return best_device()
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} can't be used ({reason}); try cpu") from error
    return device


def _as_photo(photo: Photo | ImageU8 | Path | str) -> Photo:
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
