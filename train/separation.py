"""Measure how well discriminators tell restored from real faces, both held out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.dataset import Sample
from train.step import Autocast, Crop, LossNetworks


def roc_auc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    """Return the share of pairs in which the positive value is larger; ties count half."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


@torch.no_grad()
def discriminator_auc(
    networks: LossNetworks, pairs: Iterable[tuple[Tensor, Sample]], autocast: Autocast
) -> dict[str, float]:
    """Return each discriminator's ROC AUC over held-out faces: 0.5 is chance, 1 all told apart.

    Changes no network: spectral norms aren't iterated here.

    Args:
        networks: those that learn are asked.
        pairs: the restored image (1, 3, size, size) and its sample, face by face.
    """
    fake: dict[str, list[float]] = {}
    real: dict[str, list[float]] = {}
    with _evaluating(networks.learning().values()):
        for image, sample in pairs:
            crop = Crop(0, 0, image.shape[-1])
            for found, seen in ((fake, image), (real, sample.gt)):
                for name, maps in networks.all_logits(seen, sample.boxes, crop, autocast).items():
                    mean = torch.stack([logits.mean() for logits in maps]).mean()
                    found.setdefault(name, []).append(mean.item())
    return {name: roc_auc(np.array(real[name]), np.array(fake[name])) for name in real}


@contextmanager
def _evaluating(networks: Iterable[nn.Module]) -> Iterator[None]:
    networks = list(networks)
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for network in networks:
            network.train()
