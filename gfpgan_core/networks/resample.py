"""The two ways in which GFPGAN's networks change resolution, both in plain PyTorch.

`bilinear` is that of the clean releases. `fir` is StyleGAN2's own (arXiv 1912.04958, appendix B):
a [1,3,3,1] low-pass filter with a transposed convolution going up, a strided one going down.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def bilinear(image: Tensor, factor: float) -> Tensor:
    """Resize (N, C, H, W) by `factor`; no antialiasing, as the releases expect."""
    return F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)


def bilinear_then_conv(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `conv2d(bilinear(image, 2), weight, bias, padding=1)` for a quarter of the products.

    Bilinear enlarging is zero insertion and a [1,3,3,1] low-pass filter. The filter commutes with
    the convolution, and a convolution of mostly zeros is a transposed one of the small image.
    With the image continued beyond its border instead of followed by zeros that is exact; the
    outermost ring of pixels, where the two differ, is put right afterwards.

    Args:
        image: (N, C_in, H, W).
        weight: (C_out, C_in, 3, 3).
        bias: (C_out,).

    Returns:
        (N, C_out, 2H, 2W).
    """
    if torch.onnx.is_in_onnx_export():  # runtimes know the plain form, and make it fast themselves
        return F.conv2d(bilinear(image, 2), weight, bias, padding=1)
    continued = F.pad(image, (1, 1, 1, 1), mode="replicate")
    spread = F.conv_transpose2d(continued, weight.flip(2, 3).transpose(0, 1), stride=2, padding=1)
    channels = len(weight)
    kernel = _fir_kernel(channels, spread) * 4
    if bias is not None and bias.requires_grad:
        # A bias inside would make oneDNN compute the constant kernel's gradient along with its own:
        # a sixth of a training step.
        y = F.conv2d(spread, kernel, groups=channels) + bias[:, None, None].to(spread.dtype)
    else:
        y = F.conv2d(spread, kernel, bias, groups=channels)
    # What the pixels just outside added, where the padding ought to be 0. The corners belong to
    # the rows, so that they are taken away once.
    top, bottom = (F.pad(_bilinear_line(image[:, :, i]), (1, 1), mode="replicate") for i in (0, -1))
    left, right = (_bilinear_line(image[:, :, :, i]) for i in (0, -1))
    y[:, :, 0] -= F.conv1d(top, weight[:, :, 0])
    y[:, :, -1] -= F.conv1d(bottom, weight[:, :, 2])
    y[:, :, :, 0] -= F.conv1d(left, weight[:, :, :, 0], padding=1)
    y[:, :, :, -1] -= F.conv1d(right, weight[:, :, :, 2], padding=1)
    return y


class LeakyConv2d(nn.Conv2d):
    """A 3x3 convolution followed by a leaky ReLU."""

    slope = 0.2

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, padding: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, 3, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, H, W) for (N, C_in, H, W), or what the stride leaves."""
        return F.leaky_relu(super().forward(x), self.slope, inplace=True)


class BilinearConv2d(LeakyConv2d):
    """A 3x3 convolution of the image enlarged bilinearly to twice its size, and a leaky ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, 2H, 2W) for (N, C_in, H, W)."""
        y = bilinear_then_conv(x, self.weight, self.bias)
        return F.leaky_relu(y, self.slope, inplace=True)


def _bilinear_line(line: Tensor) -> Tensor:
    """Enlarge (N, C, L) to (N, C, 2L)."""
    return F.interpolate(line, scale_factor=2, mode="linear", align_corners=False)


def _fir_kernel(channels: int, like: Tensor) -> Tensor:
    """Return (C, 1, 4, 4): the depthwise outer product of [1,3,3,1] with itself, of sum 1."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=like.device, dtype=like.dtype) / 8
    return (taps[:, None] * taps).expand(int(channels), 1, 4, 4)


def fir_blur(image: Tensor, padding_px: int, gain: float = 1.0) -> Tensor:
    """Low-pass filter the image; zero padding makes it 2 * `padding_px` - 3 px larger."""
    channels = image.shape[1]
    return F.conv2d(image, _fir_kernel(channels, image) * gain, padding=padding_px, groups=channels)


def fir_upsample(image: Tensor) -> Tensor:
    """Insert zeros, then low-pass filter: (N, C, 2H, 2W); the gain 4 keeps the mean."""
    channels = image.shape[1]
    kernel = _fir_kernel(channels, image) * 4
    return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=channels)
