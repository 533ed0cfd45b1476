"""Every back end gives the plain formulation's pictures."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import upstream
from conftest import ROOT, SAMPLE, random_network
from torch import Tensor, nn

from gfpgan_core import backends, images
from gfpgan_core.backends import load_backend, openvino
from gfpgan_core.backends.cpu import layers, winograd
from gfpgan_core.backends.cpu.threads import threads
from gfpgan_core.backends.gpu import GpuRunner
from gfpgan_core.backends.replace import replace_layers
from gfpgan_core.config import GeneratorConfig, NetworkConfig, RestoreFormerConfig
from gfpgan_core.errors import InputError
from gfpgan_core.networks import resample
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.networks.stylegan2 import SpatialFeatureTransform, StyleConv, ToRGB
from gfpgan_core.weights.load import build
from gfpgan_core.weights.releases import RELEASES

# Wide enough for Winograd, small enough for a test: 64 to 256 channels at 64 px.
WIDE = GeneratorConfig(face_size_px=64, channel_multiplier=1, narrow=0.5, style_features=64)

# Sums in another order, of values about 1: 6e-5 on the processor that this was measured on, and
# another's may be several times that. A wrong tap or tile gives 1e-2 and more.
_ROUNDING = 5e-4


def _bilinear_then_conv_ref(image: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The plain form: enlarge, then convolve with zeros beyond the border."""
    large = F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False)
    return F.conv2d(large, weight, bias, padding=1)


def _faces(size: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


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
    monkeypatch.setattr(winograd, "_ROWS_BYTES", 1 << 18)  # several rounds
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


@pytest.fixture(scope="module")
def theirs_and_ours() -> tuple[nn.Module, GFPGAN]:
    theirs = upstream.generator("clean", size=64, channel_multiplier=1, narrow=0.5)
    ours = GFPGAN(dataclasses.replace(WIDE, style_features=512)).eval().requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize(
    ("backend", "tolerance"),
    [("torch", 1e-4), ("winograd", 1e-3)],
)
def test_a_back_end_gives_upstreams_pictures(
    backend: str, tolerance: float, theirs_and_ours: tuple[nn.Module, GFPGAN]
) -> None:
    theirs, ours = theirs_and_ours
    lq = _faces(64, 3)
    expected = upstream.run(theirs, lq)[0]
    found = load_backend(ours, backend)(lq)
    assert expected.std() > 0.1
    assert (found - expected).abs().max() < tolerance


def _small(config: NetworkConfig, size_px: int) -> NetworkConfig:
    """The same structure, with fewer levels and channels."""
    if isinstance(config, GeneratorConfig):
        return dataclasses.replace(config, face_size_px=size_px, narrow=0.125, style_features=64)
    return RestoreFormerConfig(
        face_size_px=size_px,
        base_channels=32,
        channel_factors=config.channel_factors[:3],
        attention_px=size_px // 4,
        latent_channels=32,
        codebook_size=16,
    )


STRUCTURES = {release.config: name for name, release in RELEASES.items()}


@pytest.mark.parametrize("backend", ["torch", "winograd", "openvino"])
@pytest.mark.parametrize("config", STRUCTURES, ids=STRUCTURES.values())
def test_every_release_runs_on_every_back_end(backend: str, config: NetworkConfig) -> None:
    if backend == "openvino":
        pytest.importorskip("openvino")
    # OpenVINO converts each layer for as long as it takes to run some hundred of them.
    small = _small(config, 16 if backend == "openvino" else 64)
    torch.manual_seed(1)
    network = build(small).requires_grad_(False)
    upstream.fill_zeros(network)
    lq = _faces(small.face_size_px, 2)
    expected = network(lq)
    found = load_backend(network, backend)(lq)
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_the_compiled_back_end_gives_upstreams_pictures() -> None:
    theirs = upstream.generator("clean", size=16, channel_multiplier=1, narrow=0.125)
    config = GeneratorConfig(face_size_px=16, channel_multiplier=1, narrow=0.125)
    ours = GFPGAN(config).eval().requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    lq = _faces(16, 3)
    expected = upstream.run(theirs, lq)[0]
    run = GpuRunner(ours, "cpu", compiled=True)  # its path, without a GPU
    for count in (3, 1):  # a batch that is filled up, and one that isn't
        assert (run(lq[:count]) - expected[:count]).abs().max() < 1e-3


def test_bf16_stays_near_where_the_processor_has_it(
    theirs_and_ours: tuple[nn.Module, GFPGAN],
) -> None:
    theirs, ours = theirs_and_ours
    try:
        run = load_backend(ours, "openvino-bf16")
    except InputError as error:
        pytest.skip(str(error))
    expected = upstream.run(theirs, _faces(64, 1))[0]
    difference = run(_faces(64, 1)) - expected
    assert difference.square().mean().sqrt() < 0.02 * expected.std()


def test_a_back_end_leaves_the_network_as_it_was() -> None:
    network = random_network(1, WIDE).requires_grad_(False)
    lq = _faces(64, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    kinds = [type(module) for module in network.modules()]
    load_backend(network, "winograd")(lq)
    assert [type(module) for module in network.modules()] == kinds
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_winograd_is_used_for_the_wide_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    original = winograd.convolve

    def spied(image: Tensor, *rest: Any) -> Tensor:
        seen.add(tuple(image.shape[2:]))
        return original(image, *rest)

    monkeypatch.setattr(layers, "convolve", spied)
    load_backend(random_network(1, WIDE), "winograd")(_faces(64, 1))
    assert seen == {(64, 64), (32, 32)}  # and of 16 px none


def test_openvinos_model_is_converted_once_and_anew_for_other_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted: list[Path] = []
    original = openvino._save_openvino

    def spied(network: GFPGAN, path: Path) -> None:
        converted.append(path)
        original(network, path)

    monkeypatch.setattr(openvino, "_save_openvino", spied)
    network = random_network(1).requires_grad_(False)
    lq = _faces(64, 1)
    first = load_backend(network, "openvino")(lq)
    again = load_backend(network, "openvino")(lq)
    assert len(converted) == 1
    assert torch.equal(first, again)
    other = load_backend(random_network(2).requires_grad_(False), "openvino")(lq)
    assert len(converted) == 2
    assert not torch.allclose(first, other, atol=0.01)


@pytest.mark.parametrize(
    ("backend", "device", "text"),
    [
        ("fastest", "cpu", "allowed: auto, torch"),
        ("openvino", "cuda", "is for the CPU"),
        ("compile", "cpu", "is for GPUs"),
    ],
)
def test_an_unusable_back_end_is_an_error(backend: str, device: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        backends.chosen_backend(backend, device, random_network(1))


def test_torch_has_its_threads_back_after_winograd() -> None:
    before = torch.get_num_threads()
    run = load_backend(random_network(1, WIDE), "winograd")
    run(_faces(64, 1))
    with pytest.raises((RuntimeError, ValueError)):
        run(_faces(64, 1)[:, :2])  # two channels
    assert torch.get_num_threads() == before
    assert threads.count == 0


def test_an_overflow_in_half_precision_is_met_in_float32() -> None:
    network = random_network(1).requires_grad_(False)
    network.stylegan_decoder.to_rgb1.bias.fill_(1e5)  # more than float16 holds
    lq = _faces(64, 2)
    found = GpuRunner(network, "cpu", compiled=False, dtype=torch.float16)(lq)
    assert found.isfinite().all()
    assert torch.allclose(found, network(lq), atol=1.0)  # of 1e5: float32's own rounding


def test_half_precision_is_near_float32() -> None:
    network = random_network(1).requires_grad_(False)
    lq = _faces(64, 2)
    found = GpuRunner(network, "cpu", compiled=False, dtype=torch.bfloat16)(lq)
    expected = network(lq)
    difference = (found - expected).square().mean().sqrt()
    assert 0 < difference < 0.05 * expected.std()


@pytest.mark.gpu
def test_the_gpu_gives_the_cpus_pictures() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    network = random_network(1, WIDE).requires_grad_(False)
    lq = _faces(64, 3)
    expected = network(lq)
    on_gpu = random_network(1, WIDE).requires_grad_(False).to("cuda")
    for backend in ("torch", "compile"):
        found = load_backend(on_gpu, backend, "cuda")(lq)
        assert (found - expected).abs().max() < 0.02 * expected.abs().max()


def test_the_command_line_takes_a_back_end(tmp_path: Path, tiny_weights: Path) -> None:
    written = {}
    for backend in ("torch", "openvino"):
        command = [sys.executable, "-m", "gfpgan_core", "restore", str(SAMPLE), "--format", "png"]
        command += ["--weights", str(tiny_weights), "--output", str(tmp_path / backend)]
        command += ["--backend", backend, "--aligned"]
        subprocess.run(command, check=True, cwd=ROOT)
        (path,) = (tmp_path / backend).glob("*.png")
        written[backend] = images.read_rgb(path).astype(np.int16)
    assert np.abs(written["torch"] - written["openvino"]).max() <= 1
