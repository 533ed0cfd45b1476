"""Networks that grow: the same picture at first, from every size and width."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from torch import Tensor

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from train.grow import adapted, widened

_SMALL = dataclasses.replace(
    TINY, face_size_px=16, narrow=0.03125, style_features=8, mlp_layers=0, residual=True
)


def _assert_close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, atol=2e-6, rtol=0)  # sums in another order


def _network(config: GeneratorConfig) -> GFPGAN:
    """Random weights, noise and biases that are not at rest, as after a training."""
    torch.manual_seed(3)
    network = GFPGAN(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


def _images(size_px: int) -> Tensor:
    return torch.rand(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("level", [4, 8, 16])
def test_a_wider_level_gives_the_same_picture(level: int) -> None:
    network = _network(_SMALL)
    config = dataclasses.replace(_SMALL, level_factors=((level, 2.0),))
    wide = widened(network, config).eval()
    assert wide.config == config
    assert sum(p.numel() for p in wide.parameters()) > sum(p.numel() for p in network.parameters())
    _assert_close(wide(_images(16)), network(_images(16)))


def test_all_levels_made_wider_at_once_give_the_same_picture_and_learn() -> None:
    network = _network(_SMALL)
    config = dataclasses.replace(_SMALL, narrow=0.0625)
    wide = adapted(network, config)
    image = wide(_images(16))
    _assert_close(image.detach(), network(_images(16)))
    image.square().mean().backward()
    new = wide.stylegan_decoder.get_parameter("style_convs.2.modulated_conv.weight").grad
    assert new is not None
    assert (new[0, :8, 8:].abs().sum() > 0).all()  # an old output learns to look at new inputs


@pytest.mark.parametrize("size_px", [32, 64])
def test_a_larger_network_adds_the_small_ones_change_enlarged(size_px: int) -> None:
    network = _network(_SMALL)
    factors = ((16, 2.0), (32, 2.0), (64, 2.0))
    config = dataclasses.replace(
        _SMALL,
        face_size_px=size_px,
        level_factors=tuple(pair for pair in factors if pair[0] <= size_px),
    )
    lq = _images(size_px)
    reduced = lq
    while reduced.shape[-1] > 16:
        reduced = F.interpolate(reduced, scale_factor=0.5, mode="bilinear")
    expected = network(reduced) - reduced
    while expected.shape[-1] < size_px:
        expected = F.interpolate(expected, scale_factor=2, mode="bilinear")
    large = adapted(network, config)
    assert large.config == config
    _assert_close(large.eval()(lq).detach(), lq + expected)


def test_a_smaller_network_keeps_the_levels_that_remain() -> None:
    network = _network(_SMALL)
    large = adapted(network, dataclasses.replace(_SMALL, face_size_px=32, level_factors=((32, 2),)))
    small = adapted(large, _SMALL)
    new = ("conv_body_first.weight", "conv_body_first.bias")
    for name, value in network.state_dict().items():
        if name not in new:
            assert torch.equal(small.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"narrow": 0.015625}, "can only be made wider"),
        ({"style_features": 16}, "style_features 8"),
        ({"face_size_px": 32, "level_factors": ((32, 0.25),)}, "it needs 6"),
    ],
)
def test_what_cannot_be_kept_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        adapted(_network(_SMALL), dataclasses.replace(_SMALL, **changes))  # type: ignore[arg-type]
