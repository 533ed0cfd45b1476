"""The discriminators of GFPGAN's training: one of whole faces, one for each facial component.

Sources: StyleGAN2 (arXiv 1912.04958), GFPGAN (arXiv 2101.04061, section 3.4). Attribute names are
those of basicsr 1.4.2 and gfpgan 1.3.8, so that published discriminators load. Learning rates are
equalized as there: weights have unit variance and are scaled in each forward pass.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.config import full_channels
from gfpgan_core.networks.resample import fir_blur

_SQRT2 = math.sqrt(2)


class EqualizedConv2d(nn.Module):
    """A convolution whose weights are scaled by 1 / sqrt(fan-in) at each call."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, bias: bool
    ) -> None:
        super().__init__()
        self.stride = stride
        self.padding_px = kernel_size // 2 if stride == 1 else 0  # the blur before has padded
        self.gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.gain
        return F.conv2d(x, weight, self.bias, self.stride, self.padding_px)


class EqualizedLinear(nn.Module):
    """A linear layer whose weights are scaled by 1 / sqrt(fan-in) at each call."""

    def __init__(self, in_features: int, out_features: int, *, activate: bool = False) -> None:
        super().__init__()
        self.activate = activate
        self.gain = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.randn(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.gain, self.bias)
        return F.leaky_relu(y, 0.2) * _SQRT2 if self.activate else y


class BiasedLeakyReLU(nn.Module):
    """A bias for each channel, then a leaky ReLU of gain sqrt(2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias[:, None, None].to(x.dtype), 0.2) * _SQRT2


class FirBlur(nn.Module):
    """The [1,3,3,1] low-pass filter before a strided convolution."""

    def __init__(self, padding_px: int) -> None:
        super().__init__()
        self.padding_px = padding_px

    def forward(self, x: Tensor) -> Tensor:
        return fir_blur(x, self.padding_px)


def _conv_layer(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    downsample: bool = False,
    activate: bool = True,
    bias: bool = True,
) -> nn.Sequential:
    """Return a blur (when halving the resolution), a convolution, and a bias with leaky ReLU."""
    layers: list[nn.Module] = [FirBlur(1 + kernel_size // 2)] if downsample else []
    layers.append(
        EqualizedConv2d(
            in_channels, out_channels, kernel_size, 2 if downsample else 1, bias and not activate
        )
    )
    if activate:
        layers.append(BiasedLeakyReLU(out_channels))
    return nn.Sequential(*layers)


class ResBlock(nn.Module):
    """Residual block that halves the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = _conv_layer(in_channels, in_channels, 3)
        self.conv2 = _conv_layer(in_channels, out_channels, 3, downsample=True)
        self.skip = _conv_layer(
            in_channels, out_channels, 1, downsample=True, activate=False, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x)) + self.skip(x)) / _SQRT2


class StyleGAN2Discriminator(nn.Module):
    """Judge whole faces by one logit each: positive is real."""

    def __init__(
        self,
        face_size_px: int = 512,
        channel_multiplier: int = 1,
        narrow: float = 1.0,
        stddev_group: int = 4,
    ) -> None:
        super().__init__()
        self.stddev_group = stddev_group

        def width(level_px: int) -> int:
            return int(full_channels(level_px, channel_multiplier) * narrow)

        body: list[nn.Module] = [_conv_layer(3, width(face_size_px), 1)]
        level_px = face_size_px
        while level_px > 4:
            body.append(ResBlock(width(level_px), width(level_px // 2)))
            level_px //= 2
        self.conv_body = nn.Sequential(*body)
        self.final_conv = _conv_layer(width(4) + 1, width(4), 3)
        self.final_linear = nn.Sequential(
            EqualizedLinear(width(4) * 16, width(4), activate=True), EqualizedLinear(width(4), 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return (N, 1) logits of faces (N, 3, size, size) in -1..1."""
        feat = self.conv_body(image)
        feat = torch.cat([feat, self.minibatch_stddev(feat)], dim=1)
        return self.final_linear(self.final_conv(feat).flatten(1))

    def minibatch_stddev(self, feat: Tensor) -> Tensor:
        """Return (N, 1, 4, 4): how much a group's samples differ; equal images betray a collapse.

        Sample n is in group n mod (N / group): what a step sees doesn't change when its batch is
        dealt out in turn to processes of one group each. Groups are of `stddev_group`, or of the
        nearest size that divides the batch.
        """
        batch = len(feat)
        group = stddev_group_of(batch, self.stddev_group)
        parted = feat.float().unflatten(0, (group, -1))  # (group, N / group, C, 4, 4)
        deviation = (parted.var(dim=0, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        repeated = deviation.repeat(group)[:, None, None, None].to(feat.dtype)
        return repeated.expand(-1, 1, *feat.shape[2:])


def stddev_group_of(batch: int, wanted: int) -> int:
    """Return the largest group up to `wanted` that divides the batch, else the smallest above it.

    A group of one sample would have no deviation: only a batch of one gets it.
    """
    divisors = [size for size in range(1, batch + 1) if batch % size == 0]
    fitting = [size for size in divisors if 1 < size <= wanted]
    return max(fitting) if fitting else min(divisors[1:], default=1)


class ComponentDiscriminator(nn.Module):
    """Judge crops of one facial component by a map of logits; give features for the style loss.

    With `high_pass_gain` it also sees the crop's fine detail, that much amplified: what a
    discriminator of a batch of four learns late from the colors alone.
    """

    def __init__(self, narrow: float = 1.0, high_pass_gain: float = 0.0) -> None:
        super().__init__()
        self.high_pass_gain = high_pass_gain
        first, second, third = (int(channels * narrow) for channels in (64, 128, 256))
        self.conv1 = _conv_layer(6 if high_pass_gain else 3, first, 3)
        self.conv2 = _conv_layer(first, second, 3, downsample=True)
        self.conv3 = _conv_layer(second, second, 3)
        self.conv4 = _conv_layer(second, third, 3, downsample=True)
        self.conv5 = _conv_layer(third, third, 3)
        self.final_conv = _conv_layer(third, 1, 3, activate=False)

    def forward(self, crop: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return logits (N, 1, H/4, W/4), and the features at 1/2 and 1/4 of the size."""
        if self.high_pass_gain:
            crop = torch.cat([crop, self.high_pass_gain * high_pass(crop)], dim=1)
        half = self.conv3(self.conv2(self.conv1(crop)))
        quarter = self.conv5(self.conv4(half))
        return self.final_conv(quarter), [half, quarter]


def high_pass(image: Tensor) -> Tensor:
    """Return (N, C, H, W) less its blur by the binomial [1, 4, 6, 4, 1], mirrored at borders."""
    channels = image.shape[1]
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=image.device, dtype=image.dtype) / 16
    padded = F.pad(image, (2, 2, 2, 2), mode="reflect")
    with torch.autocast(image.device.type, enabled=False):  # a difference of nearly equal values
        blurred = F.conv2d(padded, taps.view(1, 1, 5, 1).expand(channels, 1, 5, 1), groups=channels)
        blurred = F.conv2d(
            blurred, taps.view(1, 1, 1, 5).expand(channels, 1, 1, 5), groups=channels
        )
    return image - blurred
