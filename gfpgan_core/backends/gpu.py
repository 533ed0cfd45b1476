"""The GPU's back ends: half precision, compiled or not."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gfpgan_core.runtime import inference_dtype

_logger = logging.getLogger(__name__)

# Batches that a compiled network is made for on a GPU; others are filled up to the next.
_GPU_BATCHES = (1, 2, 4, 8)


class GpuRunner:
    """Runs a network in half precision where the GPU has it, and in float32 after an overflow."""

    def __init__(
        self, network: nn.Module, device: str, *, compiled: bool, dtype: torch.dtype | None = None
    ) -> None:
        """Take a network on the device, with float32 weights.

        Args:
            dtype: of the fast run; None: what `inference_dtype` says.
        """
        self.device = device
        self.network = network
        self.dtype = inference_dtype(device) if dtype is None else dtype
        in_float32 = self.dtype == torch.float32
        fast = network if in_float32 else copy.deepcopy(network).to(self.dtype)
        self.fast: Callable[[Tensor], Tensor] = fast
        self.batches: tuple[int, ...] = ()
        if compiled:
            # CUDA graphs: no kernel of the small levels is long enough to hide its own launch.
            self.fast = torch.compile(fast, mode="reduce-overhead", dynamic=False)
            self.batches = _GPU_BATCHES

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> Tensor:
        """Return the network's output in float32, on the device of the batch."""
        on_device = batch
        if torch.device(self.device).type == "cuda" and batch.device.type == "cpu":
            on_device = batch.pin_memory().to(self.device, non_blocking=True)
        small = on_device.to(self.device, self.dtype, memory_format=torch.channels_last)
        output = self._padded(small)[: len(batch)].float()
        if not output.isfinite().all():
            _logger.warning("%s overflowed: this batch is computed in float32", self.dtype)
            output = self.network(on_device.to(self.device))
        return output.to(batch.device)

    def _padded(self, batch: Tensor) -> Tensor:
        """Return the fast network's output, the batch filled up to a size it was compiled for."""
        sizes = [size for size in self.batches if size >= len(batch)]
        if not sizes:
            return self.fast(batch)
        missing = batch[-1:].expand(sizes[0] - len(batch), -1, -1, -1)
        return self.fast(torch.cat([batch, missing]))
