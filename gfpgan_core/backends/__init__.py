"""The back ends, which run networks: equal results, at different speeds.

The other modules of this folder are imported from here alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from gfpgan_core.backends.cpu.parsenet import PARSENET_CONV, PARSENET_LAYERS
from gfpgan_core.backends.gpu import GpuRunner
from gfpgan_core.backends.layout import copy_sharing_weights, keeps_size, lay_out_channels_last
from gfpgan_core.backends.replace import full_name, replace_layers
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.runtime import release_freed_memory, returning_freed_memory

# A network's input (N, C, H, W) to its output, both float32 and on the device of the input.
Runner = Callable[[Tensor], Tensor]

# Just wide and large enough that its levels of 32 and 64 px take every kernel.
_KERNELS_CONFIG = GeneratorConfig(64, channel_multiplier=1, narrow=0.125, style_features=64)


@dataclass(frozen=True)
class BackEnd:
    """A way to run networks."""

    load: Callable[[nn.Module, str], Runner]
    """Takes a network and a device; must leave the network's modules as they are."""
    on_cpu: bool = False
    on_gpu: bool = False
    package: str = ""
    """The optional package that it needs, which is an extra of this one by the same name."""


def load_backend(network: nn.Module, backend: str = "auto", device: str = "cpu") -> Runner:
    """Return a function that runs the network on a device, at the precision of that device.

    The network's modules stay as they are; the back ends work on a copy. The copy shares the
    weights, which are moved to the device and laid out anew in memory.

    Args:
        network: one tensor in, one out: for restoration, enlarging or face parsing.
        backend: a key of `BACKENDS`, or `auto`.
        device: `cpu`, `cuda`, `cuda:1` ...

    Raises:
        InputError: unknown, not installed, or not for this device or network.
    """
    chosen = BACKENDS[chosen_backend(backend, device, network)]
    with returning_freed_memory():
        runner = chosen.load(network, device)
    release_freed_memory()  # the weights were laid out anew: what they were goes
    return runner


def chosen_backend(backend: str, device: str, network: nn.Module) -> str:
    """Return the back end that a name means; `auto` is the fastest that equals plain torch.

    Raises:
        InputError: unknown, not installed, or not for this device.
    """
    on_cpu = torch.device(device).type == "cpu"
    if backend == "auto":
        return "winograd" if on_cpu and _suits_winograd(network) else "torch"
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}; allowed: auto, {', '.join(BACKENDS)}")
    chosen = BACKENDS[backend]
    if on_cpu and not chosen.on_cpu:
        raise InputError(f"backend {backend!r} is for GPUs; on the CPU `winograd` is the fast one")
    if not on_cpu and not chosen.on_gpu:
        raise InputError(f"backend {backend!r} is for the CPU; the device is {device!r}")
    if chosen.package and importlib.util.find_spec(chosen.package) is None:
        raise InputError(
            f"backend {backend!r} needs the package {chosen.package}:"
            f" pip install 'gfpgan-core[{chosen.package}]'"
        )
    return backend


def _load_torch(network: nn.Module, device: str, *, compiled: bool = False) -> Runner:
    network = copy_sharing_weights(network)
    replace_layers(network, PARSENET_LAYERS)
    lay_out_channels_last(network)
    if torch.device(device).type == "cpu":
        return _on_cpu(network)
    return GpuRunner(network.to(device), device, compiled=compiled)


def _load_winograd(network: nn.Module, _: str) -> Runner:
    from gfpgan_core.backends.cpu.layers import run_on_own_threads  # numba takes a second

    network = copy_sharing_weights(network)
    lay_out_channels_last(network)
    return _on_cpu(run_on_own_threads(network))


def _load_openvino(network: nn.Module, _: str, *, precision: str) -> Runner:
    from gfpgan_core.backends.openvino import load_openvino

    return load_openvino(network, precision)


BACKENDS: Mapping[str, BackEnd] = {
    "torch": BackEnd(_load_torch, on_cpu=True, on_gpu=True),
    "winograd": BackEnd(_load_winograd, on_cpu=True),
    # Measured on the CPU: slower than plain torch since the convolutions are cheap, 0.8 GiB more.
    "compile": BackEnd(partial(_load_torch, compiled=True), on_gpu=True),
    "openvino": BackEnd(partial(_load_openvino, precision="f32"), on_cpu=True, package="openvino"),
    "openvino-bf16": BackEnd(
        partial(_load_openvino, precision="bf16"), on_cpu=True, package="openvino"
    ),
}
"""By name, in the order of `config.Backend`."""


def compile_kernels() -> None:
    """Run each of the CPU's kernels once, so that numba compiles it, or reads it from its cache.

    Called while a container image is built, or at start, so that the first photo doesn't wait for
    it. The cache is the folder that `NUMBA_CACHE_DIR` names, else `__pycache__` beside the sources;
    its key is the source's path and content, numba's version and the processor.
    """
    size_px = _KERNELS_CONFIG.face_size_px
    load_backend(GFPGAN(_KERNELS_CONFIG), "winograd")(torch.zeros(1, 3, size_px, size_px))
    from gfpgan_core.backends.cpu.reflected import compile_kernels as compile_parsenets

    compile_parsenets()


def _suits_winograd(network: nn.Module) -> bool:
    """Return whether most of the network's time goes into wide 3x3 convolutions.

    Measured: of the generators the wide ones' (`compact` has no wide layers); of the others
    ParseNet, and those that consist of nothing else, as Real-ESRGAN's do.
    """
    if isinstance(network, GFPGAN):
        return network.config.narrow >= 0.5
    if any(full_name(type(module)) == PARSENET_CONV for module in network.modules()):
        return True
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return bool(convolutions) and all(keeps_size(conv, 3) for conv in convolutions)


def _on_cpu(network: nn.Module) -> Runner:
    @torch.no_grad()
    def run(batch: Tensor) -> Tensor:
        return network(batch.contiguous(memory_format=torch.channels_last))

    return run
