"""Replacements of layers, with the same results in float32, faster on the CPU."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.backends.cpu.parsenet import PARSENET_CONV, enlarges, fold, plain_layer
from gfpgan_core.backends.cpu.pointwise import convolve_1x1, scale_and_shift_half, to_few_channels
from gfpgan_core.backends.cpu.reflected import (
    convolve_every_second,
    repeat_and_convolve,
    sum_taps,
)
from gfpgan_core.backends.cpu.threads import threads
from gfpgan_core.backends.cpu.winograd import (
    TILE_PX,
    Epilogue,
    convolve,
    enlarge_and_convolve,
    taps_of,
    transform_weight,
)
from gfpgan_core.backends.layout import keeps_size
from gfpgan_core.backends.replace import Place, Table, full_name, replace_layers
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
_MIN_CLASSES = 16  # torch's own padding by reflection costs a copy of 64 MB as well


def run_on_own_threads(network: nn.Module) -> nn.Module:
    """Replace the network's layers, in place, and return it as a module that takes the cores."""
    replace_layers(network, FAST_LAYERS)
    return _OnOwnThreads(network)


class _OnOwnThreads(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        with threads.exclusive():
            return self.network(x)


class WinogradConv2d(nn.Module):
    """Compute an `nn.Conv2d` (3x3, stride 1, padding 1) and a (P)ReLU after it."""

    def __init__(self, conv: nn.Conv2d, slope: Tensor | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.slope = torch.ones(conv.out_channels) if slope is None else slope.detach()
        self._epilogue = _epilogue_of(conv, self.slope)
        self._in_scale = torch.ones(1, conv.in_channels)
        self._weight_u: Tensor | None = None  # made at the first image that is large enough

    def forward(self, x: Tensor) -> Tensor:
        if not should_use_winograd(x, self.conv.weight):
            with threads.torch_threads():
                y = F.conv2d(x, self.conv.weight, self.conv.bias, padding=1)
            return F.prelu(y, self.slope.to(y.dtype))
        if self._weight_u is None:
            self._weight_u = transform_weight(self.conv.weight)
        return convolve(x, self._weight_u, self._in_scale, self._epilogue)


class ParseNetConv2d(nn.Module):
    """Compute a `ConvLayer` of facexlib's ParseNet: of an image padded by reflection.

    Its weights are laid out at the first image; `plain` computes what the kernels don't take.
    """

    def __init__(self, conv: nn.Conv2d, slope: float, plain: nn.Module, *, doubles: bool) -> None:
        super().__init__()
        self.conv = conv
        self.plain = plain
        self._epilogue = _epilogue_of(conv, torch.full((conv.out_channels,), slope))
        self._in_scale = torch.ones(1, conv.in_channels)
        self._doubles = doubles
        self._prepared: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        if not should_use_winograd(x, weight, _MIN_CLASSES):
            with threads.torch_threads():
                return self.plain(x)
        halves = self.conv.stride[0] == 2
        if self._prepared is None:
            resizes = self._doubles or halves
            self._prepared = (
                sum_taps(weight, doubles=self._doubles) if resizes else transform_weight(weight)
            )
        if self._doubles:
            return repeat_and_convolve(x, self._prepared, self._epilogue)
        if halves:
            return convolve_every_second(x, self._prepared, self._epilogue)
        return convolve(x, self._prepared, self._in_scale, self._epilogue, reflected=True)


class TapsBilinearConv2d(nn.Module):
    """Compute a `BilinearConv2d`, whose weights it rebinds to its own layout."""

    def __init__(self, conv: BilinearConv2d) -> None:
        super().__init__()
        self.conv = conv
        self._epilogue = _epilogue_of(conv, torch.full((conv.out_channels,), conv.slope))
        self._taps = _rebind_as_taps(conv.weight)[None]

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self.conv(x)
        return enlarge_and_convolve(x, self._taps, self._epilogue)


class FastStyleConv(nn.Module):
    """Compute a `StyleConv`; rebind the weights of an enlarging one to its own layout."""

    def __init__(self, style_conv: StyleConv) -> None:
        super().__init__()
        self.style_conv = style_conv
        conv: ModulatedConv2d = style_conv.modulated_conv
        self._bias = style_conv.bias.flatten()
        self._slope = torch.full((len(self._bias),), 0.2)
        self._prepared = _rebind_as_taps(conv.weight) if conv.upsample else None
        self._weight_energy = conv.weight_energy()

    def forward(self, x: Tensor, style_code: Tensor, noise: Tensor) -> Tensor:
        conv = self.style_conv.modulated_conv
        if not (
            x.dtype == torch.float32 if conv.upsample else should_use_winograd(x, conv.weight[0])
        ):
            with threads.torch_threads():
                return self.style_conv(x, style_code, noise)
        style = conv.modulation(style_code)
        noise = self.style_conv.weight * noise
        demodulation = conv.demodulation(style, self._weight_energy)
        epilogue = Epilogue(demodulation, self._bias, self._slope, noise)
        if self._prepared is None:
            self._prepared = transform_weight(conv.weight[0])
        if not conv.upsample:
            return convolve(x, self._prepared, style, epilogue)
        # The taps are smaller than the image: they are scaled, not the image.
        return enlarge_and_convolve(x, style[:, :, None] * self._prepared, epilogue)


class FastToRGB(nn.Module):
    """Compute a `ToRGB`."""

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
    """Compute a `SpatialFeatureTransform` in place: its input is overwritten."""

    def __init__(self, transform: SpatialFeatureTransform) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, sft_scale: Tensor, sft_shift: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self.transform(x, sft_scale, sft_shift)
        return scale_and_shift_half(x, sft_scale, sft_shift)


class PointwiseConv2d(nn.Module):
    """Compute a 1x1 `nn.Conv2d`."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self.conv(x)
        return convolve_1x1(x, self.conv.weight, self.conv.bias)


def should_use_winograd(x: Tensor, weight: Tensor, min_out_channels: int = _MIN_CHANNELS) -> bool:
    """Return whether Winograd's method takes this input (N, C, H, W), and is the faster one."""
    height, width = x.shape[2:]
    return (
        x.dtype == torch.float32
        and height % TILE_PX == 0
        and width % TILE_PX == 0
        and min(height, width) >= _MIN_SIDE_PX
        and weight.shape[0] >= min_out_channels
        and weight.shape[1] >= _MIN_CHANNELS
    )


def _epilogue_of(conv: nn.Conv2d, slope: Tensor) -> Epilogue:
    """Return the convolution's bias, and the (P)ReLU of that slope (C_out,), as an epilogue."""
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    return Epilogue(torch.ones(1, conv.out_channels), bias, slope)


def _rebind_as_taps(weight: Tensor) -> Tensor:
    """Return the taps of a (1,) C_out, C_in, 3, 3 parameter, and rebind it to a view of them.

    So there is one copy of the weights in memory.
    """
    taps = taps_of(weight.detach()[0] if weight.ndim == 5 else weight)
    laid_out = taps.view(-1, 3, 3, taps.shape[1] // 9).permute(3, 0, 1, 2)
    weight.data = laid_out[None] if weight.ndim == 5 else laid_out
    return taps


def _take_activation_after(place: Place, conv: nn.Conv2d) -> Tensor | None:
    """Return the slopes (C_out,) of the (P)ReLU after the convolution; put an `Identity` there."""
    parent, name = place.parent, place.name
    if not isinstance(parent, nn.Sequential | nn.ModuleList) or not name.isdecimal():
        return None
    follower = parent[int(name) + 1] if int(name) + 1 < len(parent) else None
    slopes = torch.ones(conv.out_channels)
    if isinstance(follower, nn.LeakyReLU):
        slopes = slopes * follower.negative_slope
    elif isinstance(follower, nn.PReLU):
        slopes = slopes * follower.weight.detach()
    else:
        return None
    parent[int(name) + 1] = nn.Identity()
    return slopes


def _faster_conv(conv: nn.Conv2d, place: Place) -> nn.Module | None:
    if keeps_size(conv, 3):
        return WinogradConv2d(conv, _take_activation_after(place, conv))
    return PointwiseConv2d(conv) if keeps_size(conv, 1) else None


def _faster_leaky_conv(conv: LeakyConv2d, place: Place) -> nn.Module | None:
    slope = torch.full((conv.out_channels,), conv.slope)
    return WinogradConv2d(conv, slope) if keeps_size(conv, 3) else None


def _faster_parsenet_conv(layer: Any, place: Place) -> nn.Module:
    conv, activation = fold(layer)
    plain = plain_layer(conv, activation, place)
    if activation is not None and not isinstance(activation, nn.LeakyReLU):
        return plain
    slope = 1.0 if activation is None else activation.negative_slope
    return ParseNetConv2d(conv, slope, plain, doubles=enlarges(place))


def _faster_style_conv(layer: StyleConv, place: Place) -> nn.Module | None:
    conv = layer.modulated_conv
    can_take = not conv.upsample or conv.resampling == "bilinear"
    return FastStyleConv(layer) if can_take else None


FAST_LAYERS: Table = {
    PARSENET_CONV: _faster_parsenet_conv,
    full_name(BilinearConv2d): lambda layer, place: TapsBilinearConv2d(layer),
    full_name(StyleConv): _faster_style_conv,
    full_name(ToRGB): lambda layer, place: FastToRGB(layer),
    full_name(SpatialFeatureTransform): lambda layer, place: FastFeatureTransform(layer),
    full_name(LeakyConv2d): _faster_leaky_conv,
    full_name(nn.Conv2d): _faster_conv,
}
