"""Each fast layer of the CPU back end computes what the layer that it replaces computes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.backends.cpu import layers, winograd
from gfpgan_core.backends.replace import replace_layers
from gfpgan_core.networks import resample
from gfpgan_core.networks.stylegan2 import SpatialFeatureTransform, StyleConv, ToRGB

# Sums in another order, of values about 1: 6e-5 on the processor that this was measured on, and
# another's may be several times that. A wrong tap or tile gives 1e-2 and more.
_ROUNDING = 5e-4


def _bilinear_then_conv_ref(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The plain form: enlarge, then convolve with zeros beyond the border."""
    large = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    return F.conv2d(large, weight, bias, padding=1)


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (4, 4), (7, 16), (33, 20)])
def test_the_cheap_enlarging_convolution_is_exact_at_every_pixel(size_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 5, *size_hw, dtype=torch.float64)
    weight, bias = torch.randn(7, 5, 3, 3, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    expected = _bilinear_then_conv_ref(image, weight, bias)
    found = resample.bilinear_then_conv(image, weight, bias)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-12


def test_the_cheap_enlarging_convolution_has_the_plain_ones_gradients() -> None:
    torch.manual_seed(0)
    values = (torch.randn(1, 3, 5, 4), torch.randn(4, 3, 3, 3), torch.randn(4))
    gradients = []
    for form in (resample.bilinear_then_conv, _bilinear_then_conv_ref):
        leaves = [value.double().requires_grad_() for value in values]
        form(*leaves).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, plain in zip(*gradients, strict=True):
        assert ours is not None and plain is not None
        assert torch.allclose(ours, plain, atol=1e-9)


def _epilogue_ref(y: Tensor, scale: Tensor, bias: Tensor, slope: Tensor, noise: Tensor) -> Tensor:
    return F.prelu(scale[:, :, None, None] * y + bias[:, None, None] + noise, slope)


@pytest.mark.parametrize(
    ("channels", "size_hw"),
    [((3, 5), (4, 4)), ((64, 70), (32, 48)), ((16, 8), (64, 512)), ((192, 200), (32, 32))],
)
def test_winograd_equals_the_plain_convolution(
    channels: tuple[int, int], size_hw: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, channels[0], *size_hw)
    weight = torch.randn(channels[1], channels[0], 3, 3) / (9 * channels[0]) ** 0.5
    in_scale, out_scale = torch.rand(2, channels[0]) + 0.5, torch.rand(2, channels[1]) + 0.5
    bias, slope = torch.randn(channels[1]), torch.rand(channels[1])
    noise = torch.randn(2, 1, *size_hw)
    convolved = F.conv2d(in_scale[:, :, None, None] * image, weight, padding=1)
    expected = _epilogue_ref(convolved, out_scale, bias, slope, noise)
    epilogue = winograd.Epilogue(out_scale, bias, slope, noise)
    found = winograd.convolve(image, winograd.transform_weight(weight), in_scale, epilogue)
    assert (found - expected).abs().max() < _ROUNDING


@pytest.mark.parametrize(
    ("channels", "size_hw"), [((3, 5), (1, 1)), ((5, 3), (2, 7)), ((16, 40), (130, 64))]
)
def test_nine_enlarged_taps_equal_the_plain_convolution(
    channels: tuple[int, int], size_hw: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(winograd, "ROWS_BYTES", 1 << 18)  # several rounds
    torch.manual_seed(0)
    image = torch.randn(2, channels[0], *size_hw)
    weight = torch.randn(channels[1], channels[0], 3, 3) / (9 * channels[0]) ** 0.5
    scale = torch.rand(2, channels[1]) + 0.5
    bias, slope = torch.randn(channels[1]), torch.rand(channels[1])
    noise = torch.randn(1, 1, 2 * size_hw[0], 2 * size_hw[1])
    convolved = _bilinear_then_conv_ref(image, weight)
    expected = _epilogue_ref(convolved, scale, bias, slope, noise)
    epilogue = winograd.Epilogue(scale, bias, slope, noise)
    found = winograd.enlarge_and_convolve(image, winograd.taps_of(weight)[None], epilogue)
    assert (found - expected).abs().max() < _ROUNDING


def _style_conv_ref(layer: StyleConv, x: Tensor, code: Tensor, noise: Tensor) -> Tensor:
    """The paper's form: each sample's own weights, modulated and demodulated."""
    conv = layer.modulated_conv
    if conv.upsample:
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    result = []
    for i, style in enumerate(conv.modulation(code)):
        weight = conv.weight[0] * style[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        result.append(2**0.5 * F.conv2d(x[i : i + 1], weight, padding=1))
    return F.leaky_relu(torch.cat(result) + layer.weight * noise + layer.bias, 0.2)


@pytest.mark.parametrize("upsample", [False, True])
@torch.no_grad()
def test_style_convolutions_equal_the_papers_form(upsample: bool) -> None:
    torch.manual_seed(0)
    layer = StyleConv(64, 96, 8, upsample=upsample)
    layer.weight.fill_(0.7)
    layer.bias.normal_()
    x, code = torch.randn(2, 64, 64, 64), torch.randn(2, 8)
    side = 128 if upsample else 64
    noise = torch.randn(1, 1, side, side)
    expected = _style_conv_ref(layer, x, code, noise)
    holder = nn.ModuleList([layer])
    replace_layers(holder, layers.FAST_LAYERS)
    assert holder[0] is not layer
    for form in (layer, holder[0]):
        assert (form(x, code, noise) - expected).abs().max() < _ROUNDING


@torch.no_grad()
def test_pixelwise_layers_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    modules = nn.ModuleList([nn.Conv2d(5, 7, 1), ToRGB(6, 4), SpatialFeatureTransform()])
    modules[1].bias.normal_()  # type: ignore[operator]
    x, code = torch.randn(2, 6, 13, 9), torch.randn(2, 4)
    scale, shift = torch.randn(2, 2, 3, 13, 9)
    small = torch.randn(2, 3, 13, 9)[:, :, :6, :4]
    arguments = ((x[:, 1:],), (x[:, :, :12, :8], code, small), (x, scale, shift))
    expected = [layer(*given) for layer, given in zip(modules, arguments, strict=True)]
    before = [tuple(value.clone() for value in given) for given in arguments[:2]]
    replace_layers(modules, layers.FAST_LAYERS)
    for layer, given, plain in zip(modules, arguments, expected, strict=True):
        assert (layer(*given) - plain).abs().max() < 1e-5
    for given, copies in zip(arguments, before, strict=False):
        assert all(torch.equal(a, b) for a, b in zip(given, copies, strict=True))


@torch.no_grad()
def test_activations_after_a_convolution_are_computed_with_it() -> None:
    torch.manual_seed(0)
    prelu = nn.PReLU(64)
    prelu.weight.uniform_(-1, 1)
    plain = nn.Sequential(
        nn.Conv2d(32, 64, 3, padding=1), prelu, nn.Conv2d(64, 32, 3, padding=1), nn.LeakyReLU(0.1)
    )
    x = torch.randn(1, 32, 68, 72)
    expected = plain(x)
    replace_layers(plain, layers.FAST_LAYERS)
    assert [type(m) for m in plain] == [layers.WinogradConv2d, nn.Identity] * 2
    assert (plain(x) - expected).abs().max() < _ROUNDING
    small = torch.randn(1, 32, 5, 7)  # too small for Winograd
    assert plain(small).shape == (1, 32, 5, 7)
