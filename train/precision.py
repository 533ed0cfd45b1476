"""The precision that a run computes in, and whether it pays on this processor."""

from __future__ import annotations

import logging
import time

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from train.config import TrainConfig

_MEASUREMENTS = 2
_SLOWER_FROM = 1.2  # below, a measurement of milliseconds on a busy machine says nothing

_logger = logging.getLogger(__name__)


def accelerator_for(config: TrainConfig) -> Accelerator:
    """Return what runs a training; warn of a bfloat16 that this processor emulates."""
    # accelerate keeps one precision for a process, and refuses a second run of another one.
    AcceleratorState._reset_state()  # the processes' own state stays
    in_bf16 = config.precision == "bf16"
    accelerator = Accelerator(
        cpu=config.device == "cpu", mixed_precision="bf16" if in_bf16 else "no"
    )
    if in_bf16 and accelerator.device.type == "cpu" and accelerator.is_main_process:
        _warn_if_slower()
    return accelerator


def _warn_if_slower() -> None:
    ratio = convolution_seconds(torch.bfloat16) / convolution_seconds(torch.float32)
    if ratio > _SLOWER_FROM:
        _logger.warning(
            "precision: bf16 takes %.1f times as long as fp32 on this processor (a convolution,"
            " forward and backward); --set precision=fp32 is faster here",
            ratio,
        )


def convolution_seconds(dtype: torch.dtype) -> float:
    """Return the shortest time of a 3x3 convolution, forward and backward, on the CPU."""
    random = torch.Generator().manual_seed(0)  # the run's own numbers stay as they are
    image = torch.randn(1, 64, 32, 32, generator=random).to(dtype)
    image = image.contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(64, 64, 3, 3, generator=random).to(dtype).requires_grad_()
    seconds = []
    for _ in range(1 + _MEASUREMENTS):  # the first one prepares
        started = time.perf_counter()
        F.conv2d(image, weight, padding=1).sum().backward()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
