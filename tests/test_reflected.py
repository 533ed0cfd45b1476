"""Convolutions of images padded by reflection, at the same, double and half size, and ParseNet."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.backends import chosen_backend, load_backend
from gfpgan_core.backends.cpu import layers, winograd
from gfpgan_core.backends.cpu.parsenet import PARSENET_CONV
from gfpgan_core.backends.cpu.reflected import (
    convolve_every_second,
    repeat_and_convolve,
    sum_taps,
)
from gfpgan_core.backends.cpu.winograd import Epilogue
from gfpgan_core.backends.replace import Place, full_name

# Of sums in another order; a wrong tap or border gives 1e-1.
_ROUNDING = 2e-4


def _plain(image: Tensor, weight: Tensor, epilogue: Epilogue, stride: int) -> Tensor:
    """In float64: pad by reflection, convolve, scale, add the bias, leaky ReLU."""
    y = F.conv2d(F.pad(image.double(), (1,) * 4, mode="reflect"), weight.double(), stride=stride)
    y = y * epilogue.scale[:, :, None, None] + epilogue.bias[:, None, None]
    return F.prelu(y, epilogue.slope.double())


def _drawn(size_hw: tuple[int, int]) -> tuple[Tensor, Tensor, Epilogue]:
    torch.manual_seed(0)
    image, weight = torch.randn(2, 5, *size_hw), torch.randn(7, 5, 3, 3)
    return image, weight, Epilogue(torch.rand(2, 7) + 0.5, torch.randn(7), torch.rand(7))


def _assert_equal(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < _ROUNDING


@pytest.mark.parametrize("size_hw", [(2, 2), (2, 6), (4, 4), (18, 34)])
def test_a_repeated_image_is_convolved_as_by_the_plain_way(size_hw: tuple[int, int]) -> None:
    image, weight, epilogue = _drawn(size_hw)
    doubled = F.interpolate(image, scale_factor=2, mode="nearest")
    found = repeat_and_convolve(image, sum_taps(weight, doubles=True), epilogue)
    _assert_equal(found, _plain(doubled, weight, epilogue, 1))


@pytest.mark.parametrize("size_hw", [(4, 4), (4, 12), (20, 36)])
def test_every_second_pixel_is_convolved_as_by_the_plain_way(size_hw: tuple[int, int]) -> None:
    image, weight, epilogue = _drawn(size_hw)
    found = convolve_every_second(image, sum_taps(weight, doubles=False), epilogue)
    _assert_equal(found, _plain(image, weight, epilogue, 2))


@pytest.mark.parametrize("size_hw", [(4, 4), (8, 4), (36, 20)])
def test_winograd_reflects_where_it_is_asked_to(size_hw: tuple[int, int]) -> None:
    image, weight, epilogue = _drawn(size_hw)
    weight_u = winograd.transform_weight(weight)
    found = winograd.convolve(image, weight_u, torch.ones(1, 5), epilogue, reflected=True)
    _assert_equal(found, _plain(image, weight, epilogue, 1))


def _conv_layer(channels: int, scale: str, activation: str) -> nn.Module:
    from facexlib.parsing.parsenet import ConvLayer

    torch.manual_seed(1)
    layer = ConvLayer(channels, 2 * channels, 3, scale, norm_type="bn", relu_type=activation).eval()
    nn.init.uniform_(layer.norm.norm.running_var, 0.5, 1.5)
    nn.init.normal_(layer.norm.norm.running_mean)
    assert isinstance(layer, nn.Module)
    return layer


@pytest.mark.parametrize("activation", ["none", "leakyrelu", "prelu", "selu"])
@pytest.mark.parametrize("scale", ["none", "up", "down"])
@pytest.mark.parametrize(("channels", "side"), [(32, 32), (32, 30), (4, 32)])
@torch.inference_mode()
def test_parsenets_layers_equal_facexlibs(
    channels: int, side: int, scale: str, activation: str
) -> None:
    """Also those that the kernels don't take: too narrow, too small, another activation."""
    layer = _conv_layer(channels, scale, activation)
    name, path = ("conv1", "decoder.0.conv1") if scale == "up" else ("conv2", "encoder.1.conv2")
    ours = layers.FAST_LAYERS[PARSENET_CONV](layer, Place(nn.Identity(), name, path))
    assert ours is not None
    image = torch.randn(1, channels, side, side)
    expected = layer(image)
    assert (ours(image) - expected).abs().max() < _ROUNDING * expected.abs().max()


def test_auto_takes_the_kernels_for_parsenet_on_the_cpu() -> None:
    layer = _conv_layer(4, "none", "none")
    assert full_name(type(layer)) == PARSENET_CONV
    network = nn.Sequential(layer)
    assert chosen_backend("auto", "cpu", network) == "winograd"
    assert chosen_backend("auto", "cuda", network) == "torch"
    image = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        difference = load_backend(network.eval(), "torch")(image) - layer(image)
    assert difference.abs().max() < _ROUNDING
