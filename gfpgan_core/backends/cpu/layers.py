"""A network's modules replaced by others that compute the same, faster on the CPU, in float32."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.backends.cpu.pointwise import convolve_1x1, scale_and_shift_half, to_few_channels
from gfpgan_core.backends.cpu.threads import threads
from gfpgan_core.backends.cpu.winograd import (
    TILE_PX,
    Finish,
    convolve,
    enlarge_and_convolve,
    taps_of,
    transform_weight,
)
from gfpgan_core.networks.resample import BilinearConv2d, LeakyConv2d
from gfpgan_core.networks.stylegan2 import (
    ModulatedConv2d,
    SpatialFeatureTransform,
    StyleConv,
    ToRGB,
)

# Below these, measured on AVX-512, Winograd's transforms cost what the products save.
_MIN_CHANNELS = 32
_MIN_SIDE_PX = 32


def accelerated(network: nn.Module) -> nn.Module:
    """The network, changed in place, as something to call: one tensor in, its own output out."""
    replace_modules(network)
    return _OnAllThreads(network)


class _OnAllThreads(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        with threads.taken():
            return self.network(x)


def replace_modules(network: nn.Module) -> None:
    """Replaces, in place, the layers that this module computes faster."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BilinearConv2d):
                setattr(module, name, TapsBilinearConv2d(child))
            elif isinstance(child, StyleConv):
                conv = child.modulated_conv
                if not conv.upsample or conv.resampling == "bilinear":
                    setattr(module, name, FastStyleConv(child))
            elif isinstance(child, ToRGB):
                setattr(module, name, FastToRGB(child))
            elif isinstance(child, SpatialFeatureTransform):
                setattr(module, name, FastFeatureTransform(child))
            elif isinstance(child, nn.Conv2d) and _is_plain(child, 3):
                setattr(module, name, WinogradConv2d(child, _slope_after(module, name, child)))
            elif isinstance(child, nn.Conv2d) and _is_plain(child, 1):
                setattr(module, name, PointwiseConv2d(child))


class WinogradConv2d(nn.Module):
    """What an `nn.Conv2d` (3x3, stride 1, padding 1) and a (P)ReLU after it compute."""

    def __init__(self, conv: nn.Conv2d, slope: Tensor | None = None) -> None:
        super().__init__()
        self.conv = conv
        out_channels = conv.out_channels
        self.slope = torch.ones(out_channels) if slope is None else slope.detach()
        bias = torch.zeros(out_channels) if conv.bias is None else conv.bias
        self._finish = Finish(torch.ones(1, out_channels), bias, self.slope)
        self._in_scale = torch.ones(1, conv.in_channels)
        self._weight_u: Tensor | None = None  # made at the first image that is large enough

    def forward(self, x: Tensor) -> Tensor:
        if not _pays(x, self.conv.weight):
            with threads.torchs():
                y = F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
            return F.prelu(y, self.slope.to(y.dtype))
        if self._weight_u is None:
            self._weight_u = transform_weight(self.conv.weight)
        return convolve(x, self._weight_u, self._in_scale, self._finish)


class TapsBilinearConv2d(nn.Module):
    """What a `BilinearConv2d` computes."""

    def __init__(self, conv: BilinearConv2d) -> None:
        super().__init__()
        self.conv = conv
        out_channels = conv.out_channels
        slope = torch.full((out_channels,), conv.slope)
        assert conv.bias is not None
        self._finish = Finish(torch.ones(1, out_channels), conv.bias, slope)
        self._taps = _lay_out_as_taps(conv.weight)[None]

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self.conv(x)
        return enlarge_and_convolve(x, self._taps, self._finish)


class FastStyleConv(nn.Module):
    """What a `StyleConv` computes."""

    def __init__(self, style_conv: StyleConv) -> None:
        super().__init__()
        self.style_conv = style_conv
        conv: ModulatedConv2d = style_conv.modulated_conv
        self._bias = style_conv.bias.flatten()
        self._slope = torch.full((len(self._bias),), 0.2)
        self._prepared = _lay_out_as_taps(conv.weight) if conv.upsample else None
        self._weight_energy = conv.weight_energy()

    def forward(self, x: Tensor, style_code: Tensor, noise: Tensor) -> Tensor:
        conv = self.style_conv.modulated_conv
        if not (x.dtype == torch.float32 if conv.upsample else _pays(x, conv.weight[0])):
            with threads.torchs():
                return self.style_conv(x, style_code, noise)
        style = conv.modulation(style_code)
        noise = self.style_conv.weight * noise
        demodulation = conv.demodulation(style, self._weight_energy)
        finish = Finish(demodulation, self._bias, self._slope, noise)
        if self._prepared is None:
            self._prepared = transform_weight(conv.weight[0])
        if not conv.upsample:
            return convolve(x, self._prepared, style, finish)
        # The taps are smaller than the image: they are scaled, not the image.
        return enlarge_and_convolve(x, style[:, :, None] * self._prepared, finish)


class FastToRGB(nn.Module):
    """What a `ToRGB` computes."""

    def __init__(self, to_rgb: ToRGB) -> None:
        super().__init__()
        self.to_rgb = to_rgb

    def forward(self, x: Tensor, style_code: Tensor, image: Tensor | None = None) -> Tensor:
        if x.dtype != torch.float32:
            return self.to_rgb(x, style_code, image)
        conv = self.to_rgb.modulated_conv
        weights = conv.own_weights(conv.modulation(style_code))
        return self.to_rgb.onto(image, to_few_channels(x, weights, self.to_rgb.bias.flatten()))


class FastFeatureTransform(nn.Module):
    """What a `SpatialFeatureTransform` computes, in the place of its input."""

    def __init__(self, transform: SpatialFeatureTransform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, sft_scale: Tensor, sft_shift: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self.transform(x, sft_scale, sft_shift)
        return scale_and_shift_half(x, sft_scale, sft_shift)


class PointwiseConv2d(nn.Module):
    """What a 1x1 `nn.Conv2d` computes."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self.conv(x)
        return convolve_1x1(x, self.conv.weight, self.conv.bias)


def _lay_out_as_taps(weight: Tensor) -> Tensor:
    """The taps of a (1,) C_out, C_in, 3, 3 parameter, which becomes a view of them: one copy."""
    taps = taps_of(weight.detach()[0] if weight.ndim == 5 else weight)
    laid_out = taps.view(-1, 3, 3, taps.shape[1] // 9).permute(3, 0, 1, 2)
    weight.data = laid_out[None] if weight.ndim == 5 else laid_out
    return taps


def _pays(x: Tensor, weight: Tensor) -> bool:
    height, width = x.shape[2:]
    return (
        x.dtype == torch.float32
        and height % TILE_PX == 0
        and width % TILE_PX == 0
        and min(height, width) >= _MIN_SIDE_PX
        and min(weight.shape[:2]) >= _MIN_CHANNELS
    )


def _slope_after(parent: nn.Module, name: str, conv: nn.Conv2d) -> Tensor | None:
    """(C_out,): of the activation that follows a convolution, which is taken out if it is apart."""
    slopes = torch.ones(conv.out_channels)
    if isinstance(conv, LeakyConv2d):
        return slopes * conv.slope
    if not isinstance(parent, nn.Sequential | nn.ModuleList) or not name.isdecimal():
        return None
    follower = parent[int(name) + 1] if int(name) + 1 < len(parent) else None
    if isinstance(follower, nn.LeakyReLU):
        slopes = slopes * follower.negative_slope
    elif isinstance(follower, nn.PReLU):
        slopes = slopes * follower.weight.detach()
    else:
        return None
    parent[int(name) + 1] = nn.Identity()
    return slopes


def _is_plain(conv: nn.Conv2d, side: int) -> bool:
    """Whether it keeps the image's size, with zeros beyond the border."""
    return (
        conv.kernel_size == (side, side)
        and conv.stride == (1, 1)
        and conv.padding == (side // 2, side // 2)
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )
