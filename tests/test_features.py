"""Pretrained networks of the losses and figures: where their weights come from, and offline."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from conftest import random_network, save_named

from gfpgan_core.errors import InputError
from gfpgan_core.weights.releases import WeightFile
from gfpgan_core.weights.stored import WeightsFile
from train import features, metrics, restoration
from train.features import Backbone, load_identity, load_perceptual
from train.metrics import load_metrics


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """GFPGAN_OFFLINE, and an empty hub folder, which is returned; a look-up of a host is noted."""

    def refuse(host: Any, *_: Any, **__: Any) -> None:
        pytest.fail(f"asked the network for {host}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(features, "packaged_state", lambda: None)
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    hub = tmp_path / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    return hub


@pytest.mark.parametrize(
    ("backbone", "name"),
    [("vgg19", "vgg19-dcbb9e9d.pth"), ("mobilenet_v2", "mobilenet_v2-b0353104.pth")],
)
def test_offline_a_backbone_is_taken_from_the_disk_or_refused(
    offline: Path, backbone: Backbone, name: str
) -> None:
    with pytest.raises(InputError, match=f"{name} is not there, and GFPGAN_OFFLINE forbids"):
        load_perceptual(backbone, "", "losses.perceptual=0")


def test_a_file_in_the_hubs_folder_is_used_only_if_it_is_the_one_that_its_name_says(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.hub takes what lies there for what it once downloaded, and runs the code in it."""
    state = torchvision.models.mobilenet_v2().state_dict()
    torch.save(state, offline / "mobilenet_v2-b0353104.pth")
    with pytest.raises(InputError, match=r"its sha256 is \w+, and should be b0353104"):
        load_perceptual("mobilenet_v2", "", "losses.perceptual=0")
    name = save_named(state, offline, "mobilenet_v2")
    weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=f"https://localhost/{name}"))
    monkeypatch.setattr(torchvision.models, "get_model_weights", lambda _: weights)
    found = load_perceptual("mobilenet_v2", "", "losses.perceptual=0")
    assert torch.equal(next(found.body.parameters()), state["features.0.0.weight"])


def test_offline_the_identity_loss_is_refused_and_figures_are_left_out(offline: Path) -> None:
    with pytest.raises(InputError, match="GFPGAN_OFFLINE forbids the download"):
        load_identity("")
    metrics = load_metrics("", "cpu")
    assert (metrics.lpips, metrics.inception, metrics.identity) == (None, None, None)


def test_offline_lpips_takes_its_backbone_from_the_disk(
    offline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the same values as the package's own way, and not from another file of that name."""
    import lpips

    network = torchvision.models.alexnet()
    torch.save(network.state_dict(), offline / metrics.ALEXNET)
    assert load_metrics("", "cpu").lpips is None
    assert "should be 7be5be79" in caplog.text
    monkeypatch.setattr(metrics, "ALEXNET", save_named(network.state_dict(), offline, "alexnet"))
    ours = load_metrics("", "cpu").lpips
    monkeypatch.setattr(torchvision.models, "alexnet", lambda pretrained: network)
    theirs = lpips.LPIPS(net="alex", verbose=False)
    image, gt = torch.rand(2, 1, 3, 64, 64) * 2 - 1
    assert ours(image, gt).item() == pytest.approx(theirs(image, gt).item(), rel=1e-4)


def _read_prior() -> torch.Tensor:
    generator = random_network(9)
    restoration.take_prior(generator, "official")
    return generator.stylegan_decoder.constant_input.weight


def _read_arcface() -> torch.Tensor:
    return next(load_identity("").network.parameters())


@pytest.mark.parametrize("read", [_read_prior, _read_arcface])
def test_a_file_that_is_exchanged_after_it_was_hashed_isnt_loaded(
    read: Callable[[], torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = _small_weights(read, 1), _small_weights(read, 2)
    monkeypatch.setenv("GFPGAN_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(features, "ArcFace", lambda: torch.nn.Linear(2, 2))
    path, other = tmp_path / "weights.pth", tmp_path / "other.pth"
    torch.save(good, path)
    torch.save(bad, other)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    file = WeightFile("weights.pth", "https://localhost/weights.pth", None, sha256, "")
    monkeypatch.setattr(features, "ARCFACE", file)
    monkeypatch.setattr(restoration, "PRIOR", file)
    hashed = WeightsFile.sha256

    def hash_then_exchange(opened: WeightsFile) -> str:
        found = hashed(opened)
        other.replace(path)
        return found

    monkeypatch.setattr(WeightsFile, "sha256", hash_then_exchange)
    assert torch.equal(read(), next(iter(good.values())))
    assert not other.exists()  # the file was exchanged


def _small_weights(read: object, seed: int) -> dict[str, torch.Tensor]:
    if read is _read_prior:
        state = random_network(seed).stylegan_decoder.state_dict()
        first = "constant_input.weight"
        return {first: state.pop(first)} | state
    torch.manual_seed(seed)
    return torch.nn.Linear(2, 2).state_dict()
