"""The packaged upstream networks (gfpgan 1.3.8), made to run on the CPU to compare numbers with."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core import compat

compat.restore_functional_tensor()

UPSTREAM_CLASSES = {
    "clean": ("gfpgan.archs.gfpganv1_clean_arch", "GFPGANv1Clean"),
    "bilinear": ("gfpgan.archs.gfpgan_bilinear_arch", "GFPGANBilinear"),
    "original": ("gfpgan.archs.gfpganv1_arch", "GFPGANv1"),
}


def _leaky_relu_on_cpu(
    x: Tensor, bias: Tensor, slope: float = 0.2, scale: float = 2**0.5
) -> Tensor:
    """What basicsr's CUDA-only kernel computes: leaky ReLU of x + bias, times sqrt(2)."""
    return F.leaky_relu(x + bias.view(1, -1, *([1] * (x.ndim - 2))), slope) * scale


@contextlib.contextmanager
def cpu_activations() -> Iterator[None]:
    """Replaces upstream's CUDA-only activation while its network runs."""
    fused: Any = importlib.import_module("basicsr.ops.fused_act.fused_act")
    stylegan2: Any = importlib.import_module("basicsr.archs.stylegan2_arch")
    bilinear: Any = importlib.import_module("gfpgan.archs.stylegan2_bilinear_arch")
    before = {module: module.fused_leaky_relu for module in (fused, stylegan2, bilinear)}
    for module in before:
        module.fused_leaky_relu = _leaky_relu_on_cpu
    try:
        yield
    finally:
        for module, function in before.items():
            module.fused_leaky_relu = function


def generator(
    form: str, *, size: int, channel_multiplier: int, narrow: float, style_features: int = 512
) -> nn.Module:
    """Upstream's generator with random weights, none of them zero."""
    module_name, class_name = UPSTREAM_CLASSES[form]
    network = getattr(importlib.import_module(module_name), class_name)(
        out_size=size,
        num_style_feat=style_features,
        channel_multiplier=channel_multiplier,
        fix_decoder=False,
        num_mlp=8,
        input_is_latent=True,
        different_w=True,
        narrow=narrow,
        sft_half=True,
    )
    return fill_zeros(network)


def restoreformer(width: int = 64) -> nn.Module:
    module = importlib.import_module("gfpgan.archs.restoreformer_arch")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its latent's size
        return fill_zeros(module.RestoreFormer(ch=width))


def fill_zeros(network: nn.Module) -> nn.Module:
    """Gives constant parameters (biases, noise strengths, norms) random values: all must matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() == 1 or parameter.std() == 0:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


@torch.no_grad()
def run(network: nn.Module, lq: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Upstream's image and pyramid, with the stored noise."""
    with cpu_activations():
        image, rgbs = network(lq, randomize_noise=False)[:2]
    assert math.isfinite(image.sum().item())
    return image, rgbs or []


class ToldFaces:
    """In place of a detector: the faces are told to it. `faces` are ours (`Face`)."""

    def __init__(self, faces: Sequence[Any]) -> None:
        self.faces = faces

    def detect_faces(self, *_: object) -> Any:
        """As facexlib's detectors return them."""
        rows = [[*face.box_xyxy, face.score, *face.landmarks.ravel()] for face in self.faces]
        return np.array(rows).reshape(-1, 15)


def gfpganer(
    network: nn.Module, parser: nn.Module, faces: Sequence[Any], *, upscale: float = 2
) -> Any:
    """Upstream's GFPGANer around networks that are given, as its constructor would leave it."""
    helper: Any = importlib.import_module("facexlib.utils.face_restoration_helper")
    utils: Any = importlib.import_module("gfpgan.utils")
    restorer = utils.GFPGANer.__new__(utils.GFPGANer)
    with (
        mock.patch.object(helper, "init_detection_model", lambda *_, **__: ToldFaces(faces)),
        mock.patch.object(helper, "init_parsing_model", lambda *_, **__: parser),
    ):
        restorer.face_helper = helper.FaceRestoreHelper(
            upscale, face_size=512, use_parse=True, device=torch.device("cpu")
        )
    vars(restorer).update(
        upscale=upscale,
        bg_upsampler=None,
        device=torch.device("cpu"),
        gfpgan=lambda lq, **_: run(network, lq),  # with the stored noise
    )
    return restorer
