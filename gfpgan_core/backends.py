"""What runs a restoration network: the same pictures, at different speeds."""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from gfpgan_core.config import Backend, GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.memory import release_freed_memory
from gfpgan_core.weights import Network, cache_folder

_logger = logging.getLogger(__name__)

# Aligned faces (N, 3, size, size) in -1..1 on the CPU to the restored ones, float32 on the CPU.
Runner = Callable[[Tensor], Tensor]

# Batches that a compiled network is made for on a GPU; others are filled up to the next.
_GPU_BATCHES = (1, 2, 4, 8)


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
        return _GpuRunner(network, device, compiled=backend == "compile")
    if backend.startswith("openvino"):
        return _openvino(network, "bf16" if backend.endswith("bf16") else "f32")
    channels_last(network)
    run: nn.Module = _image_of(twin(network))
    if backend == "winograd":
        from gfpgan_core.cpu import accelerated

        run = accelerated(run)

    @torch.no_grad()
    def restore(lq: Tensor) -> Tensor:
        return run(lq.contiguous(memory_format=torch.channels_last))

    return restore


def twin(network: Network) -> Network:
    """A copy of the modules over the same tensors: replacing some leaves the network alone."""
    shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)


def channels_last(network: nn.Module) -> None:
    """Lays convolutions' weights out as channels_last: a third less time on the CPU, in place.

    The values, and who holds the parameters, stay: no second copy of the weights in memory.
    """
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.ndim == 5:  # a modulated convolution's (1, C_out, C_in, k, k)
            laid_out = parameter.data[0].contiguous(memory_format=torch.channels_last)
            parameter.data = laid_out[None]


def _image_of(network: nn.Module) -> nn.Module:
    return _FirstOutput(network).eval()


class _FirstOutput(nn.Module):
    """A restoration network's image, without what training looks at besides."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, lq: Tensor) -> Tensor:
        return self.network(lq)[0]


class _GpuRunner:
    """Half precision where the GPU has it, float32 again for a batch that overflows in it."""

    def __init__(self, network: Network, device: str, *, compiled: bool) -> None:
        self.device = device
        self.network = network
        self.dtype = half_dtype(device)
        channels_last(network)
        in_float32 = self.dtype == torch.float32
        fast = twin(network) if in_float32 else copy.deepcopy(network).to(self.dtype)
        self.fast: Callable[[Tensor], Tensor] = _image_of(fast)
        self.batches: tuple[int, ...] = ()
        if compiled:
            # CUDA graphs: no kernel of the small levels is long enough to hide its own launch.
            self.fast = torch.compile(self.fast, mode="reduce-overhead", dynamic=False)
            self.batches = _GPU_BATCHES

    @torch.no_grad()
    def __call__(self, lq: Tensor) -> Tensor:
        on_gpu = torch.device(self.device).type == "cuda"
        if on_gpu:
            lq = lq.pin_memory()
        batch = lq.to(self.device, non_blocking=True)
        small = batch.to(self.dtype, memory_format=torch.channels_last)
        image = self._padded(small)[: len(lq)].float()
        if not image.isfinite().all():
            _logger.warning("%s overflowed: these faces are restored in float32", self.dtype)
            image = self.network(batch)[0]
        return image.cpu()

    def _padded(self, batch: Tensor) -> Tensor:
        """The fast network's image, the batch filled up to a size that it was compiled for."""
        sizes = [size for size in self.batches if size >= len(batch)]
        if not sizes:
            return self.fast(batch)
        missing = batch[-1:].expand(sizes[0] - len(batch), -1, -1, -1)
        return self.fast(torch.cat([batch, missing]))


def half_dtype(device: str) -> torch.dtype:
    """float16 where the GPU computes in it quickly (capability 7 and up), else float32.

    Not bfloat16: its 8 bits of mantissa are seen in smooth skin, and values that are too large for
    float16 are met by the second run in float32.
    """
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32


def _openvino(network: Network, precision: str) -> Runner:
    """OpenVINO on the CPU; its model, and what it compiles, are kept in the cache folder."""
    import openvino

    core = openvino.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        raise InputError(
            "backend 'openvino-bf16' needs a processor with bfloat16 instructions; this one has"
            " none: use openvino"
        )
    folder = cache_folder() / "openvino"
    path = folder / f"{_fingerprint(network, openvino.__version__)}.xml"
    if not path.is_file():
        _save_openvino(network, path)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "CACHE_DIR": str(folder),
    }
    request = core.compile_model(path, "CPU", settings).create_infer_request()
    release_once = functools.cache(release_freed_memory)

    def restore(lq: Tensor) -> Tensor:
        release_once()  # the network that was converted may be gone by now
        faces = []
        for face in lq:  # the shape is fixed: one face fills the cores
            output = request.infer([face[None].contiguous().numpy()])[0]
            faces.append(torch.from_numpy(output.copy()))
        return torch.cat(faces)

    return restore


def _fingerprint(network: Network, version: str) -> str:
    """Changes with the weights, the shape, the code that computes, and OpenVINO."""
    digest = hashlib.sha256(f"{network.config} {version} {torch.__version__}".encode())
    for path in sorted((Path(__file__).parent / "networks").glob("*.py")):
        digest.update(path.read_bytes())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:32]


def _save_openvino(network: Network, path: Path) -> None:
    """Converts once; written beside and renamed, so that a kill leaves no half of a model."""
    import openvino

    size = network.config.face_size_px
    _logger.info("converting the network for OpenVINO: some 20 s, once")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every constant
        example = torch.zeros(1, 3, size, size)
        model = openvino.convert_model(
            _image_of(twin(network)), example_input=example, input=[1, 3, size, size]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.xml")
    openvino.save_model(model, temporary, compress_to_fp16=False)
    temporary.with_suffix(".bin").replace(path.with_suffix(".bin"))
    temporary.replace(path)
