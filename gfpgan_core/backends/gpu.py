"""Restoration networks on a GPU."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from gfpgan_core.backends.layout import channels_last, image_of, twin
from gfpgan_core.runtime import inference_dtype
from gfpgan_core.weights.load import Network

_logger = logging.getLogger(__name__)

# Batches that a compiled network is made for on a GPU; others are filled up to the next.
_GPU_BATCHES = (1, 2, 4, 8)


class GpuRunner:
    """Half precision where the GPU has it, float32 again for a batch that overflows in it."""

    def __init__(self, network: Network, device: str, *, compiled: bool) -> None:
        self.device = device
        self.network = network
        self.dtype = inference_dtype(device)
        channels_last(network)
        in_float32 = self.dtype == torch.float32
        fast = twin(network) if in_float32 else copy.deepcopy(network).to(self.dtype)
        self.fast: Callable[[Tensor], Tensor] = image_of(fast)
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
