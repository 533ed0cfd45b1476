"""Full-reference figures over faces never trained on, degraded with fixed seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from gfpgan_core import images
from gfpgan_core.networks.gfpgan import GFPGAN
from train.dataset import load_face
from train.degradations import DegradationConfig, degrade

_SEED = 20_240_101  # fixed: figures of different runs are of the same inputs


@dataclass(frozen=True)
class Quality:
    """Means over the faces."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class Validation:
    faces: int
    degraded: Quality
    restored: Quality


def compare(image: NDArray[np.uint8], gt: NDArray[np.uint8]) -> Quality:
    """PSNR and SSIM (Gaussian window, sigma 1.5) of two RGB images."""
    psnr = peak_signal_noise_ratio(gt, image, data_range=255)
    ssim = structural_similarity(
        gt,
        image,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    return Quality(float(psnr), float(ssim))


def degraded_pair(
    path: Path, number: int, config: DegradationConfig, face_size_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The `number`-th validation face: degraded and ground truth, the same in every run."""
    gt = load_face(path, face_size_px)
    return degrade(gt, config, np.random.default_rng((_SEED, number)))


@torch.no_grad()
def validate(
    generator: GFPGAN, paths: list[Path], config: DegradationConfig, device: str
) -> Validation:
    """The figures of the input and of the output over all `paths`, one face at a time."""
    before, after = [], []
    for number, path in enumerate(paths):
        lq, gt = degraded_pair(path, number, config, generator.config.face_size_px)
        image, _ = generator(images.to_pm1(lq)[None].to(device))
        before.append(compare(lq, gt))
        after.append(compare(images.from_pm1(image[0]), gt))
    return Validation(len(paths), _mean(before), _mean(after))


def _mean(qualities: list[Quality]) -> Quality:
    return Quality(
        float(np.mean([q.psnr_db for q in qualities])), float(np.mean([q.ssim for q in qualities]))
    )
