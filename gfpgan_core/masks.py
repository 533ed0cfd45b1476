"""Which part of a restored crop is pasted: soft masks, from the template or from face parsing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfpgan_core import geometry, images
from gfpgan_core.backends import Runner, load_backend
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.runtime import returning_freed_memory
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.download import ensure_present, is_present
from gfpgan_core.weights.load import load_strictly
from gfpgan_core.weights.releases import PARSING, WeightFile

Mask = NDArray[np.float32]

# Restored crops (size, size, 3), all of one size, to their masks (size, size), 0..1.
Masker = Callable[[list[ImageU8]], list[Mask]]

# At 512 px, of both kinds of mask.
_BORDER_PX = 24
_FEATHER_SIGMA_PX = 11.0

_CLASS_COUNT = 19
_PARSING_SIZE_PX = 512
_IMAGE_LAYER = "out_img_conv"  # ParseNet also outputs an image of the face, unused here
_GPU_BATCH = 8  # on the CPU one face fills the cores
_FASTEST_FIRST = ("parsing-fast", "parsing")


@dataclass(frozen=True)
class Parser:
    """A face parsing network: its weights, and what its input and its classes mean."""

    file: WeightFile
    build: Callable[[], nn.Module]
    mean: tuple[float, float, float]
    """Of RGB in 0..1, subtracted from the input."""
    std: tuple[float, float, float]
    """Of RGB in 0..1, divides the input after that."""
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
        PARSING["parsing"],
        _parsenet,
        (0.5,) * 3,
        (0.5,) * 3,
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15),
    ),
    "parsing-fast": Parser(
        PARSING["parsing-fast"],
        _bisenet,
        (0.485, 0.456, 0.406),  # ImageNet's
        (0.229, 0.224, 0.225),
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17),
    ),
}


class _ClassScores(nn.Module):
    """The first output, the classes' scores: facexlib's networks return more."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        if hasattr(network, _IMAGE_LAYER):
            setattr(network, _IMAGE_LAYER, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.network(x)[0]
        return scores


def template_masks(restored: list[ImageU8]) -> list[Mask]:
    """Return the square of the template with feathered edges, for each crop."""
    return [_feather(np.ones(restored[0].shape[:2], np.float32))] * len(restored)


def _feather(mask: Mask) -> Mask:
    """Return the mask with a cleared border and blurred edges; 0 on the outermost pixels."""
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
    """Return a masker by name: `template`, or one that follows hair and jaw.

    `parsing` is ParseNet, upstream's; `parsing-fast` is BiSeNet, 20 times as fast on a CPU. `auto`
    is the fastest of these whose weights are there, else the template.

    Raises:
        InputError: unknown name.
        WeightsError: parsing was asked for and its weights can't be had.
    """
    if name == "auto":
        name = next((n for n in _FASTEST_FIRST if is_present(PARSERS[n].file)), "template")
    if name not in MASKERS:
        raise InputError(f"mask is {name!r}; allowed: auto, {', '.join(MASKERS)}")
    return MASKERS[name](device)


def _load_parsing_masker(name: str, device: str) -> Masker:
    parser = PARSERS[name]
    path = ensure_present(parser.file)
    return parsing_masker(parser, load_parser(parser, path, device, parser.file.sha256), device)


MASKERS: Mapping[str, Callable[[str], Masker]] = {
    "template": lambda _: template_masks,
    **{name: partial(_load_parsing_masker, name) for name in PARSERS},
}
"""What loads a masker on a device, by name, in the order of `config.MaskKind`."""


def load_parser(parser: Parser, path: Path, device: str, sha256: str = "") -> Runner:
    """Return a function that runs the network with the weights in a file.

    Raises:
        WeightsError: the file doesn't fit, or hasn't the sha256 that is given.
    """
    network = parser.build()
    state, _ = read_state(path, sha256)
    load_strictly(network, state, path)
    return load_backend(_ClassScores(network.requires_grad_(False)), "auto", device)


def parsing_masker(parser: Parser, run: Runner, device: str) -> Masker:
    """Return the masker over `run`: (N, 3, 512, 512) to the classes' scores (N, 19, 512, 512).

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
                classes = run(batch).argmax(dim=1).byte().cpu().numpy()
            for face_classes in classes:
                mask = _feather(np.isin(face_classes, parser.pasted_classes).astype(np.float32))
                result.append(geometry.resize(mask, (size_px, size_px)))
        return result

    return masks
