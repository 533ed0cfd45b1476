"""The data set: aligned faces with degraded copies, each sample reproducible by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_SIZE_PX
from train.augmentation import AugmentationConfig, augment
from train.components import Boxes, boxes_of, flip_boxes, scale_boxes, template_boxes
from train.degradation_config import DegradationConfig
from train.degradations import degrade
from train.faces import Faces

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One pair, or a batch of them with a leading dimension N."""

    lq: Tensor
    """(3, size, size) float32 in -1..1."""
    gt: Tensor
    """(3, size, size) float32 in -1..1."""
    boxes: Tensor
    """(3, 3) float32: see `train.components`, in pixels of this size."""
    noise_seed: Tensor
    """() int64: what the decoder's noise is drawn from."""


class FaceDataset(Dataset[Sample]):
    """Item k is the k-th sample of the whole training, not of an epoch.

    Its photo, flip, degradation and noise depend on (seed, k) alone: neither the number of workers
    or processes nor an interruption changes what the network sees.
    """

    def __init__(
        self,
        faces: Faces,
        degradation: DegradationConfig,
        *,
        face_size_px: int,
        seed: int,
        boxes: Mapping[str, Boxes] | None = None,
        augmentation: AugmentationConfig | None = None,
        skip_bad_faces: bool = False,
    ) -> None:
        self.faces = faces
        self.degradation = degradation
        self.face_size_px = face_size_px
        self.seed = seed
        self.boxes = boxes or {}
        self.augmentation = augmentation or AugmentationConfig()
        self.skip_bad_faces = skip_bad_faces
        self._order = lru_cache(maxsize=2)(self._order_of_epoch)

    def _order_of_epoch(self, epoch: int) -> NDArray[np.intp]:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.faces))

    def __getitem__(self, k: int) -> Sample:
        epoch, position = divmod(k, len(self.faces))
        index = int(self._order(epoch)[position])
        rng = np.random.default_rng((self.seed, epoch, index))
        name, gt = self._face_at(epoch, position)
        boxes = boxes_of(name, self.boxes)
        boxes = template_boxes() if boxes is None else boxes
        boxes = scale_boxes(boxes, TEMPLATE_SIZE_PX, self.face_size_px)
        if self.augmentation.flip and rng.random() < 0.5:
            gt = np.ascontiguousarray(gt[:, ::-1])
            boxes = flip_boxes(boxes, self.face_size_px)
        gt, boxes = augment(gt, boxes, self.augmentation, rng)
        lq, gt = degrade(gt, self.degradation, rng)
        return Sample(
            images.to_pm1(lq),
            images.to_pm1(gt),
            torch.from_numpy(boxes).float(),
            torch.tensor(rng.integers(2**62)),
        )

    def _face_at(self, epoch: int, position: int) -> tuple[str, NDArray[np.uint8]]:
        """Return a face's name and pixels; the next one's where it broke after it was checked.

        Raises:
            InputError: it can't be used, and bad faces aren't skipped, or none is left.
        """
        order = self._order(epoch)
        for index in np.roll(order, -position):
            name = self.faces.names[int(index)]
            try:
                return name, load_face(self.faces, name, self.face_size_px)
            except InputError as error:
                if not self.skip_bad_faces:
                    raise
                _logger.warning("%s: the next face is shown in its place", error)
        raise InputError(f"no face in {self.faces.path} can be read any more")

    def __len__(self) -> int:
        return len(self.faces)


def load_face(faces: Faces, name: str, face_size_px: int) -> NDArray[np.uint8]:
    """Return the (size, size, 3) RGB pixels; a larger or smaller square image is resampled.

    Raises:
        InputError: the file is no image or not square.
    """
    face = images.decode(faces.read(name), name).rgb
    require_square(faces, name, face.shape[1], face.shape[0])
    return resize_face(face, face_size_px)


def resize_face(face: NDArray[np.uint8], size_px: int) -> NDArray[np.uint8]:
    """Return a square image at another size: reduced by area averaging, enlarged bicubically."""
    side = face.shape[0]
    if side == size_px:
        return face
    mode = cv2.INTER_AREA if side > size_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (size_px, size_px), interpolation=mode), np.uint8)


def require_square(faces: Faces, name: str, width: int, height: int) -> None:
    """Raise InputError if an image is not square."""
    if height != width:
        raise InputError(
            f"{name} in {faces.path} is {width}x{height} px; training takes square, aligned faces:"
            " python -m scripts.prepare_faces makes them from any photos"
        )


class StepSampler(Sampler[list[int]]):
    """Yields the sample numbers of each micro-batch of one process, from `first_step` on.

    A step's batch is dealt out in turn, to the micro-batches of the processes.
    """

    def __init__(
        self,
        batch_size: int,
        first_step: int,
        last_step: int,
        *,
        process: int = 0,
        processes: int = 1,
        accumulation: int = 1,
    ) -> None:
        self.batch_size = batch_size
        self.steps = range(first_step, last_step)
        self.process = process
        self.processes = processes
        self.accumulation = accumulation

    def __iter__(self) -> Iterator[list[int]]:
        parts = self.processes * self.accumulation
        for step in self.steps:
            numbers = range(step * self.batch_size, (step + 1) * self.batch_size)
            for micro in range(self.accumulation):
                yield list(numbers[micro * self.processes + self.process :: parts])

    def __len__(self) -> int:
        return len(self.steps) * self.accumulation


def collate(samples: list[Sample]) -> Sample:
    """Return a batch: every field stacked."""
    return Sample(*(torch.stack(values) for values in zip(*map(_fields, samples), strict=True)))


def _fields(sample: Sample) -> tuple[Tensor, ...]:
    return sample.lq, sample.gt, sample.boxes, sample.noise_seed
