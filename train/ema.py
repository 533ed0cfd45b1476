"""An exponential moving average of a network's weights: what is validated and exported."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

_Network = TypeVar("_Network", bound=nn.Module)


class Ema(Generic[_Network]):
    """Keeps `network`, a frozen copy whose parameters follow the trained ones."""

    def __init__(self, network: _Network, half_life_images: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life_images = half_life_images

    @torch.no_grad()
    def update(self, network: _Network, batch_size: int, seen_images: int) -> None:
        """Move the average towards `network`; early on by a shorter half-life, to forget the start.

        The half-life is at most a tenth of the images seen, as in StyleGAN3 (its `ema_rampup`,
        which has 0.05); upstream has no such start.
        """
        half_life = min(self.half_life_images, max(seen_images, 1) * 0.1)
        share = 1 - 0.5 ** (batch_size / half_life)
        pairs = zip(self.network.parameters(), network.parameters(), strict=True)
        for average, current in pairs:
            average.lerp_(current, share)
        for kept, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            kept.copy_(buffer)
