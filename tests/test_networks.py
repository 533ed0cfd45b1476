"""Our networks against upstream's with the same weights, and their shapes against the releases'."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest
import torch
import upstream
from torch import Tensor, nn

from gfpgan_core.config import GeneratorConfig, RestoreFormerConfig
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.networks.resample import fir_upsample
from gfpgan_core.networks.stylegan2 import ModulatedConv2d
from gfpgan_core.weights import convert
from gfpgan_core.weights.load import build, load_file, load_strictly
from gfpgan_core.weights.releases import RELEASES

# Of about -1..1. Float32 sums in another order: 5e-5 on the processor that this was measured on,
# and another's may be several times that.
TOLERANCE = 5e-4
SHAPES = Path(__file__).parent / "data"

SMALL = GeneratorConfig(face_size_px=64, channel_multiplier=1, narrow=0.125, style_features=64)


def _upstream_of(form: str, config: GeneratorConfig) -> nn.Module:
    return upstream.generator(
        form,
        size=config.face_size_px,
        channel_multiplier=config.channel_multiplier,
        narrow=config.narrow,
        style_features=config.style_features,
    )


def _faces(size: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _largest_difference(ours: list[Tensor], theirs: list[Tensor]) -> float:
    assert len(ours) == len(theirs) > 0
    return max((a - b).abs().max().item() for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("form", "config"),
    [
        ("clean", GeneratorConfig()),
        ("clean", GeneratorConfig(128, 1, 0.5, 256)),
        ("original", GeneratorConfig(channel_multiplier=1, resampling="fir")),
        ("original", dataclasses.replace(SMALL, resampling="fir")),
        ("bilinear", GeneratorConfig(256, 2, 0.5, 256)),
    ],
    ids=["clean-512", "clean-128", "original-512", "original-64", "bilinear-256"],
)
@torch.no_grad()
def test_generator_equals_upstreams(form: str, config: GeneratorConfig) -> None:
    theirs = _upstream_of(form, config)
    state = theirs.state_dict()
    with torch.device("meta"):
        ours = GFPGAN(config)
    load_strictly(
        ours, convert.to_clean(state) if convert.is_equalized(state) else state, Path("upstream")
    )
    lq = _faces(config.face_size_px, 1 if config.face_size_px == 512 else 3)
    their_image, their_pyramid = upstream.run(theirs, lq)
    our_image, our_pyramid = ours.eval().forward_with_pyramid(lq)
    difference = _largest_difference([our_image, *our_pyramid], [their_image, *their_pyramid])
    print(f"\nlargest difference, {form} {config.face_size_px} px: {difference:.1e}")
    assert their_image.std() > 0.1  # a flat picture would prove nothing
    assert difference < TOLERANCE


@pytest.mark.parametrize(("form", "resampling"), [("bilinear", "bilinear"), ("original", "fir")])
@torch.no_grad()
def test_upstreams_own_checkpoints_are_converted_when_loaded(
    form: str, resampling: Literal["bilinear", "fir"], tmp_path: Path
) -> None:
    theirs = _upstream_of(form, SMALL)
    torch.save({"params_ema": theirs.state_dict()}, tmp_path / "net_g.pth")
    ours = load_file(tmp_path / "net_g.pth", resampling=resampling)
    assert ours.config == dataclasses.replace(SMALL, resampling=resampling)
    lq = _faces(64)
    assert _largest_difference([ours(lq)], [upstream.run(theirs, lq)[0]]) < TOLERANCE


@torch.no_grad()
def test_restoreformer_equals_upstreams() -> None:
    theirs = upstream.restoreformer()
    with torch.no_grad():  # to the range of images, as trained weights give it
        theirs.decoder.conv_out.weight.mul_(0.25)  # type: ignore[union-attr, operator]
    ours = build(RestoreFormerConfig()).eval()
    load_strictly(ours, theirs.state_dict(), Path("upstream"))
    lq = _faces(256)  # all its weights; of 512 px it would take four times as long
    their_image, _ = upstream.run(theirs, lq)
    our_image = ours(lq)
    difference = _largest_difference([our_image], [their_image])
    print(f"\nlargest difference, RestoreFormer: {difference:.1e}")
    assert their_image.std() > 0.01
    assert difference < TOLERANCE


@pytest.mark.parametrize("version", ["v1", "v1.2", "v1.3", "v1.4", "RestoreFormer"])
def test_names_and_shapes_are_those_of_the_official_file(version: str) -> None:
    file = "gfpgan_clean" if version in ("v1.2", "v1.3", "v1.4") else version
    shapes = json.loads((SHAPES / f"{file}.json").read_text())
    official = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    if convert.is_equalized(official):
        official = convert.to_clean(official)
    with torch.device("meta"):
        ours = build(RELEASES[version].config).state_dict()
    assert {n: tuple(t.shape) for n, t in ours.items()} == {
        n: tuple(t.shape) for n, t in official.items()
    }


def test_stored_noise_makes_the_result_repeatable_and_drawn_noise_matters() -> None:
    network = upstream.fill_zeros(GFPGAN(SMALL))
    lq = _faces(64)
    first = network(lq)
    again = network(lq)
    other = network(lq, noise_seeds=torch.arange(len(lq)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_batch_gives_what_its_faces_give_alone() -> None:
    network = upstream.fill_zeros(GFPGAN(SMALL))
    lq = _faces(64, 3)
    together = network(lq)
    alone = torch.cat([network(face[None]) for face in lq])
    assert torch.allclose(together, alone, atol=1e-4)


def test_modulating_activations_equals_modulating_weights() -> None:
    torch.manual_seed(0)
    conv = ModulatedConv2d(5, 7, 3, 4)
    x, code = torch.randn(2, 5, 9, 9), torch.randn(2, 4)
    style = conv.modulation(code)
    expected = []
    for i in range(2):  # the paper's form, equations 1 and 3
        weight = conv.weight[0] * style[i][None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected.append(torch.nn.functional.conv2d(x[i : i + 1], weight, padding=1))
    assert torch.allclose(conv(x, code), torch.cat(expected), atol=1e-5)


def test_fir_upsampling_keeps_a_constant_inside() -> None:
    enlarged = fir_upsample(torch.ones(1, 2, 6, 6))
    assert enlarged.shape == (1, 2, 12, 12)
    assert torch.allclose(enlarged[:, :, 1:-1, 1:-1], torch.ones(1, 2, 10, 10), atol=1e-6)


def test_residual_adds_the_input() -> None:
    config = dataclasses.replace(SMALL, residual=True)
    plain, residual = GFPGAN(SMALL), GFPGAN(config)
    residual.load_state_dict(plain.state_dict())
    lq = _faces(64)
    assert torch.allclose(residual(lq), plain(lq) + lq, atol=1e-5)
