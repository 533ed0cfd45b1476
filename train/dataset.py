"""Aligned faces with their degraded twins, reproducible sample by sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from gfpgan_core import images
from gfpgan_core.errors import InputError
from train.degradations import DegradationConfig, degrade


@dataclass(frozen=True)
class Sample:
    """One pair: (3, size, size) float32 in -1..1."""

    lq: Tensor
    gt: Tensor


def list_faces(folder: Path) -> list[Path]:
    """The images in a folder and below it, sorted by path.

    Raises:
        InputError: the folder is missing or holds no image.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: give a folder of aligned face images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in images.SUFFIXES)
    if not paths:
        raise InputError(f"{folder} holds no image ({', '.join(images.SUFFIXES)})")
    return paths


class FaceDataset(Dataset[Sample]):
    """Item k is the k-th sample of the whole training, not of an epoch.

    Its photo, flip and degradation depend on (seed, k) alone: neither the number of workers nor
    an interruption changes what the network sees.
    """

    def __init__(
        self,
        paths: list[Path],
        degradation: DegradationConfig,
        *,
        face_size_px: int,
        seed: int,
        flip: bool = True,
    ) -> None:
        self.paths = paths
        self.degradation = degradation
        self.face_size_px = face_size_px
        self.seed = seed
        self.flip = flip
        self._order = lru_cache(maxsize=2)(self._order_of_epoch)

    def _order_of_epoch(self, epoch: int) -> NDArray[np.intp]:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.paths))

    def __getitem__(self, k: int) -> Sample:
        epoch, position = divmod(k, len(self.paths))
        index = int(self._order(epoch)[position])
        rng = np.random.default_rng((self.seed, epoch, index))
        gt = load_face(self.paths[index], self.face_size_px)
        if self.flip and rng.random() < 0.5:
            gt = np.ascontiguousarray(gt[:, ::-1])
        lq, gt = degrade(gt, self.degradation, rng)
        return Sample(images.to_pm1(lq), images.to_pm1(gt))

    def __len__(self) -> int:
        return len(self.paths)


def load_face(path: Path, face_size_px: int) -> NDArray[np.uint8]:
    """(size, size, 3) RGB; a larger or smaller square image is resampled.

    Raises:
        InputError: the file is no image or not square.
    """
    face = images.read_rgb(path)
    height, width = face.shape[:2]
    if height != width:
        raise InputError(f"{path} is {width}x{height} px; training takes square, aligned faces")
    if height == face_size_px:
        return face
    mode = cv2.INTER_AREA if height > face_size_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(face, (face_size_px, face_size_px), interpolation=mode), np.uint8)


class StepSampler(Sampler[list[int]]):
    """The sample numbers of each step from `first_step` on."""

    def __init__(self, batch_size: int, first_step: int, last_step: int) -> None:
        self.batch_size = batch_size
        self.steps = range(first_step, last_step)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield list(range(step * self.batch_size, (step + 1) * self.batch_size))

    def __len__(self) -> int:
        return len(self.steps)


def collate(samples: list[Sample]) -> Sample:
    """A batch: (N, 3, size, size)."""
    return Sample(torch.stack([s.lq for s in samples]), torch.stack([s.gt for s in samples]))
