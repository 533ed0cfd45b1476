"""Balance the terms of the objective by their gradients at the generator's image.

With `adaptive_weight` an adversarial weight is a ratio: the discriminator's gradient is scaled to
that multiple of the pixel terms' gradient, over the pixels that it sees. That is VQGAN's adaptive
weight (arXiv 2012.09841, equation 7), taken at the image instead of the last layer. So a
discriminator has the same influence when it has just begun and when it is far ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from train.config import PIXEL_TERMS, LossConfig
from train.step import ADVERSARIAL

_EPS = 1e-12


def image_gradient(
    losses: Mapping[str, Tensor],
    image: Tensor,
    weights: LossConfig,
    mean_over_processes: Callable[[Tensor], Tensor],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum's gradient at the image, and figures for the log.

    Args:
        losses: each computed from `image`.
        image: (N, 3, H, W), a leaf that requires a gradient.
        mean_over_processes: averages a tensor of squared norms, so that processes agree.

    The figures, for each adversarial term: `NAME_gradient`, the norm of its gradient;
    `NAME_ratio`, how many times the reconstruction's that is with its weight; `NAME_weight`.
    """
    reconstruction = torch.zeros_like(image)
    others: dict[str, Tensor] = {}
    for name, loss in losses.items():
        (gradient,) = torch.autograd.grad(loss, image, retain_graph=True)
        if name in PIXEL_TERMS:
            reconstruction += getattr(weights, name) * gradient
        else:
            others[name] = gradient
    total, adversarial = reconstruction.clone(), [n for n in others if n in ADVERSARIAL]
    for name, gradient in others.items():
        if name not in adversarial:
            total += getattr(weights, name) * gradient
    figures: dict[str, Tensor] = {}
    if not adversarial:
        return total, figures
    norms = mean_over_processes(
        torch.stack([_squared_norms(others[name], reconstruction) for name in adversarial])
    ).sqrt()
    for name, (own, seen) in zip(adversarial, norms, strict=True):
        weight: float | Tensor = getattr(weights, name)
        if weights.adaptive_weight:
            weight = weight * seen / (own + _EPS)
        total += weight * others[name]
        figures[f"{name}_gradient"] = own
        figures[f"{name}_ratio"] = weight * own / (seen + _EPS)
        figures[f"{name}_weight"] = torch.as_tensor(weight, device=own.device)
    return total, figures


def _squared_norms(gradient: Tensor, reconstruction: Tensor) -> Tensor:
    """Return (2,): of the gradient, and of the reconstruction's where the gradient isn't 0."""
    seen = (gradient != 0).any(dim=1, keepdim=True)
    return torch.stack([gradient.square().sum(), (reconstruction.square() * seen).sum()])
