"""The detector and the masker of a `GFPGANer`: from files or names, and moved between devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from gfpgan_core.detect import Detection, Detector, FaceDetector, load_detector
from gfpgan_core.detectors import retinaface
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import PARSERS, Mask, Masker, load_masker, load_parser, parsing_masker
from gfpgan_core.runtime import checked_device
from gfpgan_core.weights.releases import DETECTORS

_T = TypeVar("_T")

_UPSTREAMS_DETECTOR = "retinaface-resnet50"
_UPSTREAMS_PARSER = "parsing"


class _Movable(Generic[_T]):
    """A network that is loaded again on the device that it is moved to."""

    def __init__(self, load_on: Callable[[str], _T], device: str) -> None:
        self._load_on = load_on
        self.device = device
        self.loaded = load_on(device)

    def to(self, device: Any) -> Any:
        """Move to a device, and return the object itself, as torch's modules do.

        Raises:
            InputError: there is no such device here.
        """
        wanted = checked_device(str(device))
        if wanted != self.device:
            self.loaded = self._load_on(wanted)
            self.device = wanted
        return self

    def cpu(self) -> Any:
        return self.to("cpu")

    def cuda(self, index: int = 0) -> Any:
        return self.to(f"cuda:{index}")

    def eval(self) -> Any:
        return self


class MovableDetector(_Movable[Detector]):
    """Upstream's `face_det`: a detector that can be moved."""

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        """Find the faces in (H, W, 3) RGB."""
        return self.loaded.find(image, min_score)


class MovableMasker(_Movable[Masker]):
    """Upstream's `face_parse`: what makes the masks, and can be moved."""

    def __call__(self, restored: list[ImageU8]) -> list[Mask]:
        return self.loaded(restored)


def movable_detector(
    chosen: str | Detector, path: Path | str | None, folder: Path | str | None, device: str
) -> MovableDetector:
    """Return the detector of a file, of facexlib's folder if it is there, or the chosen one.

    Raises:
        InputError: unknown name.
        WeightsError: weights can't be had, or are damaged.
    """
    name = _UPSTREAMS_DETECTOR
    file = _file(path, folder, DETECTORS[name].name)

    def load_on(where: str) -> Detector:
        if file is not None:
            return FaceDetector(name, retinaface(file, name, where))
        return load_detector(chosen, where) if isinstance(chosen, str) else chosen

    return MovableDetector(load_on, device)


def movable_masker(
    chosen: str, path: Path | str | None, folder: Path | str | None, device: str
) -> MovableMasker:
    """Return the masker of a file, of facexlib's folder if it is there, or the chosen one.

    Raises:
        InputError: unknown name.
        WeightsError: weights can't be had, or are damaged.
    """
    parser = PARSERS[_UPSTREAMS_PARSER]
    file = _file(path, folder, parser.file.name)

    def load_on(where: str) -> Masker:
        if file is not None:
            return parsing_masker(parser, load_parser(parser, file, where), where)
        return load_masker(chosen, where)

    return MovableMasker(load_on, device)


def _file(path: Path | str | None, folder: Path | str | None, name: str) -> Path | None:
    """Return the file that was named, or the one in the folder if it is there."""
    if path is not None:
        return Path(path)
    inside = Path(folder) / name if folder is not None else None
    return inside if inside is not None and inside.is_file() else None
