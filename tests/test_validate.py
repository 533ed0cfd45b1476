"""Figures of restored faces: by hand, by their sources' code, and over a folder."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision
from conftest import random_network, save_named

from gfpgan_core import images
from gfpgan_core.images import ImageU8
from train import metrics as metrics_of
from train.arcface import ArcFace
from train.degradation_config import STRENGTHS
from train.faces import open_faces
from train.metrics import (
    frechet_distance,
    identity_similarity,
    load_metrics,
    perceptual_distance,
)
from train.validate import compare, degraded_pair, niqe, sharpness, validate


def test_sharpness_by_hand() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    image[16, 16] = 110  # the Laplacian: -40 there, 10 at four neighbors
    assert sharpness(image) == pytest.approx((40**2 + 4 * 10**2) / 32**2)


def test_niqe_is_basicsrs_and_rises_with_blur(portrait: ImageU8) -> None:
    blurred = np.asarray(cv2.GaussianBlur(portrait, (0, 0), 4), np.uint8)
    assert niqe(blurred) > niqe(portrait) > 0
    assert np.isnan(niqe(portrait[:96, :96]))


def test_psnr_and_ssim_by_hand() -> None:
    gt = np.full((32, 32, 3), 100, np.uint8)
    quality = compare(gt + 10, gt)
    assert quality.psnr_db == pytest.approx(20 * np.log10(255 / 10))
    # Flat images: only the luminance term of SSIM is below 1.
    c1 = (0.01 * 255) ** 2
    assert quality.ssim == pytest.approx((2 * 110 * 100 + c1) / (110**2 + 100**2 + c1))


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 2))
    b = rng.standard_normal((200_000, 2)) * (2, 3) + (1, 0)
    # means 1 apart; sum of (1 - 2)^2 and (1 - 3)^2 of independent deviations
    assert frechet_distance(a, b) == pytest.approx(1 + 1 + 4, rel=0.02)


def test_figures_of_pretrained_networks_where_they_are_at_hand(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights in torchvision's formats, under names that tell their own sha256."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    source, config = open_faces(faces), STRENGTHS["medium"]
    network = random_network(0)
    without = validate(network, source, config, "cpu", load_metrics("", "cpu")).restored
    assert (without.lpips, without.fid, without.identity) == (None, None, None)

    torch.manual_seed(0)
    inception = torchvision.models.inception_v3(init_weights=False)
    alexnet = torchvision.models.alexnet().state_dict()
    monkeypatch.setattr(metrics_of, "INCEPTION", save_named(inception.state_dict(), hub, "i"))
    monkeypatch.setattr(metrics_of, "ALEXNET", save_named(alexnet, hub, "alexnet"))
    torch.save(ArcFace().state_dict(), tmp_path / "arcface.pth")
    metrics = load_metrics(str(tmp_path / "arcface.pth"), "cpu")
    found = validate(network, source, config, "cpu", metrics)
    for quality in (found.degraded, found.restored):
        assert quality.lpips is not None and quality.lpips > 0
        assert quality.fid is not None and quality.fid > 0
        assert quality.identity is not None and -1 <= quality.identity < 1
    _, gt = degraded_pair(source, 0, config, 64)
    truth = images.to_pm1(gt)[None]
    assert perceptual_distance(metrics.lpips, truth, truth) == pytest.approx(0, abs=1e-6)
    assert metrics.identity is not None
    assert identity_similarity(metrics.identity, truth, truth) == pytest.approx(1, abs=1e-5)
