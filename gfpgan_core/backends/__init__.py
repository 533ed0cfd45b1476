"""What runs a restoration network: the same pictures, at different speeds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from gfpgan_core.backends.gpu import GpuRunner
from gfpgan_core.backends.layout import channels_last, image_of, twin
from gfpgan_core.config import Backend, GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.weights.load import Network

# Aligned faces (N, 3, size, size) in -1..1 on the CPU to the restored ones, float32 on the CPU.
Runner = Callable[[Tensor], Tensor]


def chosen_backend(backend: str, device: str, network: Network) -> str:
    """The back end that a name means; `auto` is the fastest of those with the plain one's result.

    Raises:
        InputError: unknown, not installed, or not for this device.
    """
    if backend not in get_args(Backend):
        raise InputError(f"backend is {backend!r}; allowed: {', '.join(get_args(Backend))}")
    on_cpu = torch.device(device).type == "cpu"
    if backend == "auto":
        # Winograd pays for wide layers only; `compact` has none.
        wide = isinstance(network.config, GeneratorConfig) and network.config.narrow >= 0.5
        return "winograd" if on_cpu and wide else "torch"
    if on_cpu and backend == "compile":
        # Measured: slower than plain torch since the convolutions are cheap, 0.8 GiB more memory.
        raise InputError("backend 'compile' is for GPUs; on the CPU `winograd` is the fast one")
    if not on_cpu and backend not in ("torch", "compile"):
        raise InputError(f"backend {backend!r} is for the CPU; the device is {device!r}")
    if backend.startswith("openvino") and importlib.util.find_spec("openvino") is None:
        raise InputError(f"backend {backend!r} needs OpenVINO: pip install 'gfpgan-core[openvino]'")
    return backend


def load_backend(network: Network, backend: str = "auto", device: str = "cpu") -> Runner:
    """A runner of the network, whose modules stay as they are; the back ends work on a copy.

    Its weights are shared with the copy, and only laid out anew in memory.

    Raises:
        InputError: unknown, not installed, or not for this device.
    """
    backend = chosen_backend(backend, device, network)
    if torch.device(device).type != "cpu":
        return GpuRunner(network, device, compiled=backend == "compile")
    if backend.startswith("openvino"):
        from gfpgan_core.backends.openvino import load_openvino

        return load_openvino(network, "bf16" if backend.endswith("bf16") else "f32")
    channels_last(network)
    run: nn.Module = image_of(twin(network))
    if backend == "winograd":
        from gfpgan_core.backends.cpu.layers import accelerated

        run = accelerated(run)

    @torch.no_grad()
    def restore(lq: Tensor) -> Tensor:
        return run(lq.contiguous(memory_format=torch.channels_last))

    return restore
