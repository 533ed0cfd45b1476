"""Validate a run on held-out faces, and keep its best weights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gfpgan_core import images
from gfpgan_core.geometry import TEMPLATE_SIZE_PX
from gfpgan_core.networks.gfpgan import GFPGAN
from train.components import scale_boxes, template_boxes
from train.config import TrainConfig
from train.dataset import Sample
from train.degradation_config import DegradationConfig
from train.faces import Faces
from train.log import TrainingLog
from train.metrics import load_metrics
from train.restoration import RestorationTrainer
from train.run_folder import BEST, Trainer, export
from train.separation import discriminator_auc
from train.validate import (
    Validation,
    degraded_pair,
    validate,
    validation_degradations,
    validation_sheet,
)


def validate_run(
    trainer: Trainer,
    config: TrainConfig,
    held_out: Faces,
    log: TrainingLog,
    step: int,
    scalars: dict[str, float],
) -> dict[str, float]:
    """Log the figures, keep the weights if they are the best so far, and return what that changes.

    At each of `validation_strengths`, or as `validation_degradation` says. `choose_by` says which
    figure counts.
    """
    network = trainer.ema.network
    assert isinstance(network, GFPGAN) and isinstance(trainer, RestorationTrainer)
    losses = config.losses
    arcface = losses.identity_weights if losses.identity_network == "arcface" else ""
    metrics = load_metrics(arcface, trainer.device)
    degradations = validation_degradations(config, network.config.face_size_px)
    results = []
    for name, degradation in degradations.items():
        result = validate(network, held_out, degradation, trainer.device, metrics)
        results.append(result)
        log.validation(
            step,
            result,
            partial(validation_sheet, network, held_out, degradation, trainer.device),
            strength=name,
        )
    figures = {"score": float(np.mean([result.score() for result in results]))}
    middle = list(degradations.values())[len(degradations) // 2]
    auc = discriminator_auc(
        trainer.loss_networks,
        _pairs(network, held_out, middle, trainer.device),
        trainer.accelerator.autocast,
    )
    log.selection(step, figures | {f"auc_{name}": value for name, value in auc.items()})
    key, value = _figure(config, results)
    if value <= scalars.get(key, float("-inf")):
        return {}
    export(network, Path(config.run_folder) / BEST)
    return {key: value}


def _figure(config: TrainConfig, results: list[Validation]) -> tuple[str, float]:
    """Return the name under which the best is remembered, and the value; higher is better."""
    if config.choose_by == "psnr":
        return "best_psnr_db", float(np.mean([result.restored.psnr_db for result in results]))
    return "best_score", float(np.mean([result.score() for result in results]))


def _pairs(
    network: GFPGAN, faces: Faces, degradation: DegradationConfig, device: torch.device
) -> Iterator[tuple[Tensor, Sample]]:
    """Yield each restored face with its sample; eyes and mouths where the template has them."""
    size_px = network.config.face_size_px
    boxes = scale_boxes(template_boxes(), TEMPLATE_SIZE_PX, size_px)
    for number in range(len(faces)):
        lq, gt = (
            images.to_pm1(image)[None].to(device)
            for image in degraded_pair(faces, number, degradation, size_px)
        )
        with torch.no_grad():
            image = network(lq)
        yield (
            image,
            Sample(lq, gt, torch.from_numpy(boxes).float()[None].to(device), torch.zeros(1)),
        )
