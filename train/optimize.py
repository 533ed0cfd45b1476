"""Optimizers and their learning rates; one update over all processes, refused if not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder
from train import components
from train.config import TrainConfig
from train.errors import DivergedError

_MAPPING_RATE = 0.01  # StyleGAN2's multiplier for the mapping network


def rate_factor(config: TrainConfig, step: int, first_step: int = 0) -> float:
    """Return the factor on the generator's rate at a step: linear warm-up, then the schedule.

    A pure function of the step: a resumed run needs no scheduler's state.
    """
    if step - first_step < config.warmup_steps:
        return (step - first_step + 1) / config.warmup_steps
    if config.schedule == "milestones":
        passed = sum(step >= milestone for milestone in config.milestones)
        return config.milestone_factor**passed
    learning_steps = config.steps - first_step - config.warmup_steps
    flat = config.constant_share * learning_steps
    done = (step - first_step - config.warmup_steps - flat) / max(1, learning_steps - flat)
    fallen = 0.5 * (1 + math.cos(math.pi * min(max(done, 0), 1)))
    return config.final_rate + (1 - config.final_rate) * fallen


def generator_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Adam:
    """Return Adam over the parameters that learn; with equalized rates, a group for each rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            factor = _equalized_factor(name, parameter) if config.equalised_learning_rate else 1.0
            groups.setdefault(factor, []).append(parameter)
    beta1 = 0.0 if isinstance(network, StyleGAN2Decoder) else config.adam_beta1
    return torch.optim.Adam(
        [
            {"params": parameters, "initial_lr": rate * config.learning_rate}
            for rate, parameters in groups.items()
        ],
        betas=(beta1, 0.99),
    )


def _equalized_factor(name: str, parameter: nn.Parameter) -> float:
    """Return by how much StyleGAN2's run-time gain would scale this weight's updates."""
    rate = _MAPPING_RATE if "style_mlp" in name else 1.0
    if parameter.ndim == 1 or "constant_input" in name or name.endswith("bias"):
        return rate
    shape = parameter.shape[2:] if parameter.ndim == 5 else parameter.shape[1:]
    return rate / math.sqrt(math.prod(shape))


def discriminator_optimizer(
    networks: Mapping[str, nn.Module], config: TrainConfig
) -> torch.optim.Adam:
    """Return Adam, its settings corrected for lazy regularization (arXiv 1912.04958, appendix B).

    The penalty adds one optimizer step to every `r1_every_steps`. A group of parameters for each
    learning rate and beta1; that of the projected discriminator's heads is the last.

    Args:
        networks: by name, as `LossNetworks.learning` gives them.
    """
    losses, settings = config.losses, config.discriminators
    every = losses.r1_every_steps
    is_penalized = losses.r1 and (losses.adversarial or config.objective == "prior")
    share = every / (every + 1) if is_penalized else 1.0
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name in sorted(networks, key=lambda name: name == "projected"):
        beta1 = settings.component_adam_beta1 if name in components.NAMES else 0.0
        parameters = groups.setdefault((name == "projected", beta1), [])
        parameters += networks[name].parameters()
    return torch.optim.Adam(
        [
            {
                "params": parameters,
                "initial_lr": share
                * (settings.projected_learning_rate if is_projected else settings.learning_rate),
                "betas": (beta1, 0.99**share),
            }
            for (is_projected, beta1), parameters in groups.items()
        ]
    )


def discriminator_factor(config: TrainConfig, step: int) -> float:
    """Return the factor on the discriminators' rates at a step.

    Constant, if the configuration doesn't say otherwise: an opponent that slows down with the
    generator doesn't see what changes last.
    """
    return rate_factor(config, step) if config.discriminators.schedule == "generator" else 1.0


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's rate to its initial one times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's state, but keep the initial rates that the configuration gave it."""
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["initial_lr"] = rate


def update(
    optimizer: torch.optim.Optimizer,
    losses: dict[str, Tensor],
    accelerator: Accelerator,
    step: int,
    *,
    max_norm: float = math.inf,
) -> dict[str, float]:
    """Take one step with the gradients averaged over all processes; return the losses, likewise.

    A gradient longer than `max_norm` is scaled down to it.

    Gradients are reduced here, in one message, and not by DistributedDataParallel: networks are
    called several times a step, and differentiated twice, which its hooks don't expect (StyleGAN3
    does the same).

    Raises:
        DivergedError: a loss or a gradient is not finite; nothing was changed.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    if accelerator.num_processes > 1:
        flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))
    norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    values = torch.stack([*losses.values(), norm]).detach()
    if accelerator.num_processes > 1:
        values = accelerator.reduce(values, "mean")
    numbers = dict(zip([*losses, "gradient_norm"], values.tolist(), strict=True))
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise DivergedError(
                f"{name} is {value} at step {step + 1}: lower the learning rates, lengthen"
                " discriminators.warmup_steps or use precision fp32; the last checkpoint is whole,"
                " and a run started again goes on from it"
            )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    del numbers["gradient_norm"]
    return numbers
