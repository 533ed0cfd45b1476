"""Measure restoration quality on held-out faces, degraded with fixed seeds."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfpgan_core import compat, images
from gfpgan_core.images import ImageU8
from gfpgan_core.networks.gfpgan import GFPGAN
from train.config import TrainConfig
from train.dataset import load_face
from train.degradation_config import STRENGTHS, DegradationConfig, at_face_size
from train.degradations import degrade
from train.faces import Faces
from train.metrics import (
    Metrics,
    embed,
    frechet_distance,
    identity_similarity,
    perceptual_distance,
)

_SEED = 20_240_101  # fixed: figures of different runs are of the same inputs
_SHEET_FACES = 8


@dataclass(frozen=True)
class Quality:
    """Means over the faces."""

    psnr_db: float
    ssim: float
    niqe: float
    """No reference; lower is better (Mittal et al. 2013), by basicsr's parameters, on luma."""
    sharpness: float
    """Mean energy of the Laplacian of the luma, over that of the ground truth; nan if that is 0."""
    lpips: float | None = None
    fid: float | None = None
    """Of all faces together. These three: None where their weights aren't at hand."""
    identity: float | None = None
    """Cosine of ArcFace's embeddings to the ground truth's."""
    patch_distance: float | None = None
    """Frechet distance of patches' features to the ground truth's, of all faces together; None
    where the features aren't installed."""
    face_distance: float | None = None
    """Mean distance of dlib's face descriptors to the ground truth's; None without its packages."""


@dataclass(frozen=True)
class Validation:
    """The figures of a validation: of the inputs, and of what the network made of them."""

    faces: int
    degraded: Quality
    restored: Quality
    truth_niqe: float = float("nan")
    """What the ground truths have."""

    def score(self) -> float:
        """Return a figure to choose weights by, in decibels, higher is better.

        The PSNR gained, less half a decibel for each point of NIQE above the truths', less the
        share of the input's distance of patches that is left. A blurred mean has the PSNR, a face
        of grain the NIQE, and neither of them the patches.
        """
        gained = self.restored.psnr_db - self.degraded.psnr_db
        excess = self.restored.niqe - self.truth_niqe
        gained -= 0.5 * max(excess, 0.0) if math.isfinite(excess) else 0.0
        ours, before = self.restored.patch_distance, self.degraded.patch_distance
        return gained - (ours / before if ours is not None and before else 0.0)


def compare(image: ImageU8, gt: ImageU8) -> Quality:
    """Return the figures of one RGB image; SSIM with a Gaussian window of sigma 1.5.

    NIQE is nan for images under 192 px, which hold less than two of its blocks a side.
    """
    truth = sharpness(gt)
    relative = sharpness(image) / truth if truth else float("nan")
    return Quality(*psnr_and_ssim(image, gt), niqe(image), relative)


def psnr_and_ssim(image: NDArray[Any], gt: NDArray[Any]) -> tuple[float, float]:
    """Return PSNR in dB and SSIM of (H, W, 3) or (H, W) of 0 to 255."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # scipy: a second

    psnr = peak_signal_noise_ratio(gt, image, data_range=255)
    ssim = structural_similarity(
        gt,
        image,
        data_range=255,
        channel_axis=2 if gt.ndim == 3 else None,
        gaussian_weights=True,
        use_sample_covariance=False,
    )
    return float(psnr), float(ssim)


def sharpness(image: ImageU8) -> float:
    """Return the mean squared Laplacian (4 neighbors) of the luma in gray levels."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return float(np.square(cv2.Laplacian(luma, cv2.CV_64F)).mean())


def niqe(image: ImageU8) -> float:
    """Return the natural image quality evaluator; nan where the image is too small or is flat."""
    if min(image.shape[:2]) < 192:
        return float("nan")
    compat.restore_functional_tensor()
    from basicsr.metrics.niqe import calculate_niqe

    bgr = np.ascontiguousarray(image[..., ::-1])
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return float(np.squeeze(calculate_niqe(bgr, crop_border=0, input_order="HWC")))


def degraded_pair(
    faces: Faces, number: int, config: DegradationConfig, face_size_px: int
) -> tuple[ImageU8, ImageU8]:
    """Return the `number`-th validation face: degraded and ground truth, the same in every run."""
    gt = load_face(faces, faces.names[number], face_size_px)
    return degrade(gt, config, np.random.default_rng((_SEED, number)))


@torch.no_grad()
def restore(generator: GFPGAN, lq: ImageU8, device: torch.device | str) -> ImageU8:
    """Return the network's output for one degraded crop."""
    image = generator(images.to_pm1(lq)[None].to(device))
    return images.from_pm1(image[0].cpu())


def validate(
    generator: GFPGAN,
    faces: Faces,
    config: DegradationConfig,
    device: torch.device | str,
    metrics: Metrics | None = None,
) -> Validation:
    """Return the figures of the input and of the output over all faces, one at a time."""
    metrics = metrics or Metrics()
    before, after = _Tally(metrics, device), _Tally(metrics, device)
    truth = []
    for number in range(len(faces)):
        lq, gt = degraded_pair(faces, number, config, generator.config.face_size_px)
        before.add(lq, gt)
        after.add(restore(generator, lq, device), gt)
        truth.append(niqe(gt))
    return Validation(len(faces), before.mean(), after.mean(), float(np.mean(truth)))


class _Tally:
    """Figures gathered face by face."""

    def __init__(self, metrics: Metrics, device: torch.device | str) -> None:
        self.metrics = metrics
        self.device = device
        self.values: dict[str, list[float]] = {}
        self.features: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
        self.patches: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def add(self, image_u8: ImageU8, gt_u8: ImageU8) -> None:
        found = {k: v for k, v in vars(compare(image_u8, gt_u8)).items() if v is not None}
        image, gt = (images.to_pm1(i)[None].to(self.device) for i in (image_u8, gt_u8))
        if self.metrics.lpips is not None:
            found["lpips"] = perceptual_distance(self.metrics.lpips, image, gt)
        if self.metrics.identity is not None:
            found["identity"] = identity_similarity(self.metrics.identity, image, gt)
        if self.metrics.descriptor is not None:
            found["face_distance"] = self.metrics.descriptor.distance(image_u8, gt_u8)
        if self.metrics.inception is not None:
            inception = self.metrics.inception
            self.features.append((embed(inception, image), embed(inception, gt)))
        if self.metrics.patches is not None:
            patches = self.metrics.patches
            self.patches.append((_vectors(patches, image), _vectors(patches, gt)))
        for name, value in found.items():
            self.values.setdefault(name, []).append(value)

    def mean(self) -> Quality:
        means = {name: float(np.mean(values)) for name, values in self.values.items()}
        if len(self.features) > 1:
            means["fid"] = _distance(self.features)
        if self.patches:
            means["patch_distance"] = _distance(self.patches)
        return Quality(**means)


@torch.no_grad()
def _vectors(network: torch.nn.Module, image: Tensor) -> NDArray[np.float64]:
    return np.asarray(network(image).double().cpu().numpy(), np.float64)


def _distance(pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    ours, truth = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return frechet_distance(ours, truth)


def validation_sheet(
    generator: GFPGAN, faces: Faces, config: DegradationConfig, device: torch.device | str
) -> NDArray[np.uint8]:
    """Draw rows of input, output, ground truth; every n-th face, so that the sheet is varied."""
    rows = []
    for number in range(0, len(faces), max(1, len(faces) // _SHEET_FACES))[:_SHEET_FACES]:
        lq, gt = degraded_pair(faces, number, config, generator.config.face_size_px)
        rows.append(np.hstack([lq, restore(generator, lq, device), gt]))
    return np.vstack(rows)


def strengths_at(face_size_px: int) -> dict[str, DegradationConfig]:
    """Return the named strengths for faces of this size."""
    return {name: at_face_size(config, face_size_px) for name, config in STRENGTHS.items()}


def validation_degradations(config: TrainConfig, face_size_px: int) -> dict[str, DegradationConfig]:
    """Return what a run is validated at: the named strengths, or one degradation without a name.

    Named strengths are those of faces of this size.
    """
    if not config.validation_strengths:
        return {"": config.validation_degradation}
    named = strengths_at(face_size_px)
    return {name: named[name] for name in config.validation_strengths}
