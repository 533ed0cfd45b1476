"""Every back end gives the plain formulation's pictures."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import upstream
from conftest import SAMPLE, TINIEST, random_network
from torch import Tensor, nn

from gfpgan_core import backends, images
from gfpgan_core.__main__ import main
from gfpgan_core.backends import BACKENDS, load_backend, openvino
from gfpgan_core.backends.cpu import layers, winograd
from gfpgan_core.backends.cpu.threads import threads
from gfpgan_core.backends.gpu import GpuRunner
from gfpgan_core.config import GeneratorConfig, NetworkConfig, RestoreFormerConfig
from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.load import build
from gfpgan_core.weights.releases import RELEASES

# Wide enough for Winograd, small enough for a test: 64 to 256 channels at 64 px.
WIDE = GeneratorConfig(face_size_px=64, channel_multiplier=1, narrow=0.5, style_features=64)


def _faces(size: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.rand(count, 3, size, size, generator=generator) * 2 - 1


def _theirs_and_ours(config: GeneratorConfig) -> tuple[nn.Module, GFPGAN]:
    """Upstream's network of this shape, but for 512 style features, and ours with its weights."""
    theirs = upstream.generator(
        "clean",
        size=config.face_size_px,
        channel_multiplier=config.channel_multiplier,
        narrow=config.narrow,
    )
    ours = GFPGAN(dataclasses.replace(config, style_features=512)).eval().requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture(scope="module")
def theirs_and_ours() -> tuple[nn.Module, GFPGAN]:
    return _theirs_and_ours(WIDE)


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
        factors = [(side * size_px // config.face_size_px, f) for side, f in config.level_factors]
        return dataclasses.replace(
            config,
            face_size_px=size_px,
            narrow=0.125,
            style_features=64,
            level_factors=tuple(factors),
        )
    return RestoreFormerConfig(
        face_size_px=size_px,
        base_channels=32,
        channel_factors=config.channel_factors[:3],
        attention_px=size_px // 4,
        latent_channels=32,
        codebook_size=16,
    )


STRUCTURES = {release.config: name for name, release in RELEASES.items()}


# A back end that is added is tested as well; bfloat16 rounds, and has a test of its own.
EXACT = [name for name, one in BACKENDS.items() if one.on_cpu and name != "openvino-bf16"]


@pytest.mark.parametrize("backend", EXACT)
@pytest.mark.parametrize("config", STRUCTURES, ids=STRUCTURES.values())
def test_every_release_runs_on_every_back_end(backend: str, config: NetworkConfig) -> None:
    if BACKENDS[backend].package:
        pytest.importorskip(BACKENDS[backend].package)
    # OpenVINO converts each layer for as long as it takes to run some hundred of them.
    small = _small(config, 16 if backend == "openvino" else 64)
    torch.manual_seed(1)
    network = build(small).requires_grad_(False)
    upstream.fill_zeros(network)
    lq = _faces(small.face_size_px, 2)
    expected = network(lq)
    found = load_backend(network, backend)(lq)
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.fixture(scope="module")
def tiniest_theirs_and_ours() -> tuple[nn.Module, GFPGAN]:
    return _theirs_and_ours(TINIEST)


def _stop_before_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop torch's compiler short of C++, which isn't what a GPU runs, and takes a minute."""
    if os.environ.get("GFPGAN_TEST_FULL_SIZE"):
        if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
            pytest.skip("torch 2.9's compiler writes vector code that it can't build without AVX2")
        return
    compiled = torch.compile

    def traced(network: nn.Module, *, mode: str, dynamic: bool) -> Any:
        assert mode == "reduce-overhead"
        return compiled(network, backend="aot_eager_decomp_partition", dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", traced)


def test_the_compiled_back_end_gives_upstreams_pictures(
    tiniest_theirs_and_ours: tuple[nn.Module, GFPGAN], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced, made free of side effects and taken apart into torch's basic operations."""
    _stop_before_code(monkeypatch)
    theirs, ours = tiniest_theirs_and_ours
    lq = _faces(16, 4)
    expected = upstream.run(theirs, lq)[0]
    run = GpuRunner(ours, "cpu", compiled=True)  # its path, without a GPU
    for count in (3, 4):  # a batch that is filled up, and one that isn't: one compilation
        assert (run(lq[:count]) - expected[:count]).abs().max() < 1e-3


def test_bf16_stays_near_where_the_processor_has_it(
    tiniest_theirs_and_ours: tuple[nn.Module, GFPGAN],
) -> None:
    theirs, ours = tiniest_theirs_and_ours
    try:
        run = load_backend(ours, "openvino-bf16")
    except InputError as error:
        pytest.skip(str(error))
    expected = upstream.run(theirs, _faces(16, 1))[0]
    difference = run(_faces(16, 1)) - expected
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
    original = openvino.save_openvino

    def spied(network: GFPGAN, path: Path) -> None:
        converted.append(path)
        original(network, path)

    monkeypatch.setattr(openvino, "save_openvino", spied)
    network = random_network(1, TINIEST).requires_grad_(False)
    lq = _faces(16, 1)
    first = load_backend(network, "openvino")(lq)
    again = load_backend(network, "openvino")(lq)
    assert len(converted) == 1
    assert torch.equal(first, again)
    other = load_backend(random_network(2, TINIEST).requires_grad_(False), "openvino")(lq)
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


def test_the_command_line_takes_a_back_end(tmp_path: Path) -> None:
    save_safetensors(random_network(3, TINIEST), tmp_path / "weights.safetensors")
    written = {}
    for backend in ("torch", "openvino"):
        command = ["restore", str(SAMPLE), "--format", "png", "--backend", backend, "--aligned"]
        command += ["--weights", str(tmp_path / "weights.safetensors")]
        assert main([*command, "--output", str(tmp_path / backend)]) == 0
        (path,) = (tmp_path / backend).glob("*.png")
        written[backend] = images.read_rgb(path).astype(np.int16)
    assert np.abs(written["torch"] - written["openvino"]).max() <= 1
