"""ParseNet's layers, computed without enlarging and padding whole images, in plain torch.

On the CPU those of `layers` are faster; these run on GPUs, and on inputs that those don't take.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gfpgan_core.backends.replace import Place, Replace
from gfpgan_core.tiling import even_parts

_PADDED_BYTES = 72 << 20  # of a padded image; larger ones are padded part by part

# What enlarges in facexlib's ParseNet: the first convolution and the shortcut of the decoder's
# blocks. The layers themselves don't tell: they keep the enlarging in a lambda.
_ENLARGING = ("conv1", "shortcut_func")


def fold(layer: Any) -> tuple[nn.Conv2d, nn.Module | None]:
    """Return a `ConvLayer`'s convolution, its batch normalization taken into it, and activation."""
    conv, norm, activation = layer.conv2d, layer.norm.norm, layer.relu.func
    if isinstance(norm, nn.BatchNorm2d):
        conv = fuse_conv_bn_eval(conv, norm)
    # Where there is no activation (or normalization), it multiplies by 1 instead: a copy of 64 MB.
    return conv, activation if isinstance(activation, nn.Module) else None


def enlarges(place: Place) -> bool:
    """Return whether the `ConvLayer` there doubles its input first."""
    return ".decoder." in f".{place.path}" and place.name in _ENLARGING


def plain_layer(conv: nn.Conv2d, activation: nn.Module | None, place: Place) -> nn.Module:
    """Return the layer in plain torch that replaces a folded `ConvLayer`."""
    faster = NearestConv2d(conv) if enlarges(place) else ReflectedConv2d(conv)
    return faster if activation is None else nn.Sequential(faster, activation)


PARSENET_CONV = "facexlib.parsing.parsenet.ConvLayer"
PARSENET_LAYERS: dict[str, Replace] = {
    PARSENET_CONV: lambda layer, place: plain_layer(*fold(layer), place)
}


class NearestConv2d(nn.Module):
    """Convolve (3x3) an image doubled by repeating its pixels and padded by reflection.

    An output pixel sees 2x2 pixels of the small image, which ones its parity tells: four 2x2
    convolutions.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.bias = conv.bias
        rows = [_pairs_summed(conv.weight.detach(), 2, parity) for parity in (0, 1)]
        both = [_pairs_summed(row, 3, parity) for row in rows for parity in (0, 1)]
        self.weights = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in both)

    def forward(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        # Of an enlarged image, reflected and repeated borders are the same.
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        shape = (count, len(self.weights[0]), 2 * height, 2 * width)
        result = _empty(shape, x)
        for n, weight in enumerate(self.weights):
            i, j = divmod(n, 2)
            seen = padded[:, :, i : i + height + 1, j : j + width + 1]
            result[:, :, i::2, j::2] = F.conv2d(seen, weight, self.bias)
        return result


class ReflectedConv2d(nn.Module):
    """Convolve (3x3) an image padded by reflection; a large one some rows at a time."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        count, _, height, width = x.shape
        stride = self.conv.stride[0]
        out_height, out_width = -(-height // stride), -(-width // stride)
        row_bytes = stride * x[:, :, :1].numel() * x.element_size()
        parts = even_parts(out_height, max(1, _PADDED_BYTES // row_bytes))
        if len(parts) == 1:
            return self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))
        shape = (count, self.conv.out_channels, out_height, out_width)
        result = _empty(shape, x)
        for first, last in parts:
            top, bottom = first * stride - 1, (last - 1) * stride + 2
            part = x[:, :, max(top, 0) : bottom]
            sides = (1, 1, int(top < 0), int(bottom > height))
            result[:, :, first:last] = self.conv(F.pad(part, sides, mode="reflect"))
        return result


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.empty(
        shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )


def _pairs_summed(weight: Tensor, axis: int, parity: int) -> Tensor:
    """Return two taps for three along an axis.

    At even pixels the last two taps meet the same pixel of the small image, else the first two.
    """
    first, middle, last = weight.split(1, axis)
    two = (first, middle + last) if parity == 0 else (first + middle, last)
    return torch.cat(two, axis)
