"""Which part of a restored crop is pasted: soft masks, from the template or from face parsing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gfpgan_core import geometry, images
from gfpgan_core.backends import channels_last
from gfpgan_core.config import MaskKind
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.memory import returning_freed_memory
from gfpgan_core.parts import even_parts
from gfpgan_core.releases import PARSING, PARSING_FAST, WeightFile
from gfpgan_core.weights import is_present, load_strictly, locate, read_state

Mask = NDArray[np.float32]

# Restored crops (size, size, 3), all of one size, to their masks (size, size), 0..1.
Masker = Callable[[list[ImageU8]], list[Mask]]

# At 512 px, of both kinds of mask.
_BORDER_PX = 24
_FEATHER_SIGMA_PX = 11.0

_CLASS_COUNT = 19
_PARSING_SIZE_PX = 512
_GPU_BATCH = 8  # on the CPU one face fills the cores
_PADDED_BYTES = 72 << 20  # of a padded image; larger ones are padded part by part


@dataclass(frozen=True)
class Parser:
    """A face parsing network: its weights, and what its input and its classes mean."""

    file: WeightFile
    build: Callable[[], nn.Module]
    mean: tuple[float, float, float]
    """Of RGB in 0..1, taken off before the network."""
    std: tuple[float, float, float]
    """What is left is divided by it."""
    pasted_classes: tuple[int, ...]
    """All of the head with hair and ear rings; not background, hat, neck, necklace and cloth:
    upstream's choice. Both networks know CelebAMask-HQ's classes, each in an order of its own."""


def _parsenet() -> nn.Module:
    from facexlib.parsing.parsenet import ParseNet

    return ParseNet(_PARSING_SIZE_PX, _PARSING_SIZE_PX, parsing_ch=_CLASS_COUNT)


def _bisenet() -> nn.Module:
    from facexlib.parsing.bisenet import BiSeNet

    return BiSeNet(num_class=_CLASS_COUNT)


PARSERS = {
    "parsing": Parser(
        PARSING, _parsenet, (0.5,) * 3, (0.5,) * 3, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15)
    ),
    "parsing-fast": Parser(
        PARSING_FAST,
        _bisenet,
        (0.485, 0.456, 0.406),  # ImageNet's
        (0.229, 0.224, 0.225),
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17),
    ),
}


def template_masks(restored: list[ImageU8]) -> list[Mask]:
    """The square of the template with feathered edges, for each crop."""
    return [_feather(np.ones(restored[0].shape[:2], np.float32))] * len(restored)


def _feather(mask: Mask) -> Mask:
    """The mask with its border cleared and its edges blurred; 0 on the outermost pixels."""
    size_px = mask.shape[0]
    scale = size_px / geometry.TEMPLATE_SIZE_PX
    # The blur reaches 3 sigma: what stays after clearing that much fades out before the border.
    border = max(2, round((_BORDER_PX + 3 * _FEATHER_SIGMA_PX) * scale))
    mask = mask.copy()
    for edge in (np.s_[:border], np.s_[-border:], np.s_[:, :border], np.s_[:, -border:]):
        mask[edge] = 0
    sigma = _FEATHER_SIGMA_PX * scale
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT))


def load_masker(name: str = "auto", device: str = "cpu") -> Masker:
    """A masker by name: `template`, or one that follows hair and jaw.

    `parsing` is ParseNet, upstream's; `parsing-fast` is BiSeNet, 20 times as fast on a CPU. `auto`
    is the fastest of these whose weights are there, else the template.

    Raises:
        InputError: unknown name.
        WeightsError: parsing was asked for and its weights can't be had.
    """
    if name == "auto":
        there = [n for n in ("parsing-fast", "parsing") if is_present(PARSERS[n].file)]
        name = there[0] if there else "template"
    if name == "template":
        return template_masks
    if name not in PARSERS:
        raise InputError(f"mask is {name!r}; allowed: {', '.join(get_args(MaskKind))}")
    parser = PARSERS[name]
    return parsing_masker(parser, load_parser(parser, locate(parser.file), device), device)


def load_parser(parser: Parser, path: Path, device: str) -> nn.Module:
    """The network with the weights in a file, ready to run.

    Raises:
        WeightsError: the file doesn't fit.
    """
    network = parser.build()
    state, _ = read_state(path)
    load_strictly(network, state, path)
    network.eval().requires_grad_(False)
    _replace_layers(network)
    channels_last(network)
    return network.to(device)


def _replace_layers(network: nn.Module) -> None:
    """Replaces ParseNet's layers, which enlarge and pad whole images before they convolve them."""
    from facexlib.parsing.parsenet import ConvLayer

    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, ConvLayer):
                setattr(module, name, _faster(child))


def _faster(layer: Any) -> nn.Module:
    """What a `ConvLayer` computes, its batch normalisation taken into the convolution."""
    conv, norm, activation = layer.conv2d, layer.norm.norm, layer.relu.func
    if isinstance(norm, nn.BatchNorm2d):
        conv = fuse_conv_bn_eval(conv, norm)
    doubles = layer.scale_func(torch.zeros(1, 1, 1, 1)).shape[2] == 2
    faster = NearestConv2d(conv) if doubles else ReflectedConv2d(conv)
    # Where there is no activation (or normalisation), it multiplies by 1 instead: a copy of 64 MB.
    return nn.Sequential(faster, activation) if isinstance(activation, nn.Module) else faster


class NearestConv2d(nn.Module):
    """`conv2d` (3x3) of an image doubled by repeating its pixels and padded by reflection.

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
    """`conv2d` (3x3) of an image padded by reflection; a large one some rows at a time."""

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
    """Three taps to two along an axis: at even pixels the last two see the same, else the first."""
    first, middle, last = weight.split(1, axis)
    two = (first, middle + last) if parity == 0 else (first + middle, last)
    return torch.cat(two, axis)


def parsing_masker(parser: Parser, network: nn.Module, device: str) -> Masker:
    """The masker over a network: (N, 3, 512, 512) to a tuple of class scores (N, 19, 512, 512), ...

    The masks are cut out of the restored crop, not of the degraded one, as upstream's are.
    """
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (parser.mean, parser.std))
    at_once = 1 if torch.device(device).type == "cpu" else _GPU_BATCH

    @torch.inference_mode()
    def masks(restored: list[ImageU8]) -> list[Mask]:
        size_px = restored[0].shape[0]
        parsing_wh = (_PARSING_SIZE_PX, _PARSING_SIZE_PX)
        result: list[Mask] = []
        for start in range(0, len(restored), at_once):
            faces = [
                images.to_pm1(geometry.resize(face, parsing_wh))
                for face in restored[start : start + at_once]
            ]
            batch = ((torch.stack(faces).to(device) + 1) / 2 - mean) / std
            with returning_freed_memory():  # ParseNet's blocks of many sizes: 350 MB less
                scores = network(batch.contiguous(memory_format=torch.channels_last))[0]
                classes = scores.argmax(dim=1).byte().cpu().numpy()
            for face_classes in classes:
                mask = _feather(np.isin(face_classes, parser.pasted_classes).astype(np.float32))
                result.append(geometry.resize(mask, (size_px, size_px)))
        return result

    return masks
