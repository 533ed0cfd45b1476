"""Pixels to tensors in [-1, 1] and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gfpgan_core.images.photo import ImageU8

if TYPE_CHECKING:
    from torch import Tensor


def to_pm1(image: ImageU8) -> Tensor:
    """Convert (H, W, 3) of 0..255 to (3, H, W) float32 of -1..1."""
    # Here and not at the top: torch takes 3 s and 0.6 GiB, which decoding doesn't need.
    import torch

    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(planes).float().div_(127.5).sub_(1)


def from_pm1(image: Tensor) -> ImageU8:
    """Convert (3, H, W) of about -1..1 to (H, W, 3) of 0..255: clipped and rounded."""
    levels = image.float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return np.asarray(levels.permute(1, 2, 0).cpu().numpy(), np.uint8)
