"""The two ways in which GFPGAN's networks change resolution, both in plain PyTorch.

`bilinear` is that of the clean releases. `fir` is StyleGAN2's own (arXiv 1912.04958, appendix B):
a [1,3,3,1] low-pass filter with a transposed convolution going up, a strided one going down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def bilinear(image: Tensor, factor: float) -> Tensor:
    """(N, C, H, W) enlarged or reduced by `factor`; no antialiasing, as the releases expect."""
    return F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)


def _fir_kernel(channels: int, like: Tensor) -> Tensor:
    """(C, 1, 4, 4): the depthwise outer product of [1,3,3,1] with itself, of sum 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=like.device, dtype=like.dtype) / 8
    return (taps[:, None] * taps).expand(channels, 1, 4, 4)


def fir_blur(image: Tensor, padding_px: int, gain: float = 1.0) -> Tensor:
    """The image low-pass filtered; zero padding makes it 2 * `padding_px` - 3 px larger."""
    channels = image.shape[1]
    return F.conv2d(image, _fir_kernel(channels, image) * gain, padding=padding_px, groups=channels)


def fir_upsample(image: Tensor) -> Tensor:
    """(N, C, 2H, 2W): zeros inserted, then low-pass filtered; the gain 4 keeps the mean."""
    channels = image.shape[1]
    kernel = _fir_kernel(channels, image) * 4
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=channels)
