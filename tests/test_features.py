"""Pretrained networks of the losses and figures: where their weights come from, and offline."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from gfpgan_core.errors import InputError
from train import features
from train.features import Backbone, load_identity, load_perceptual
from train.metrics import load_metrics


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """GFPGAN_OFFLINE, and an empty hub folder, which is returned; a look-up of a host is noted."""

    def refuse(host: Any, *_: Any, **__: Any) -> None:
        pytest.fail(f"asked the network for {host}")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(features, "_packaged_weights", lambda: "")
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
    if backbone == "mobilenet_v2":  # VGG19 has 550 MB
        torch.save(torchvision.models.mobilenet_v2().state_dict(), offline / name)
        load_perceptual(backbone, "", "losses.perceptual=0")


def test_offline_the_identity_loss_is_refused_and_figures_are_left_out(offline: Path) -> None:
    with pytest.raises(InputError, match="GFPGAN_OFFLINE forbids the download"):
        load_identity("")
    metrics = load_metrics("", "cpu")
    assert (metrics.lpips, metrics.inception, metrics.identity) == (None, None, None)


def test_offline_lpips_takes_its_backbone_from_the_disk(offline: Path) -> None:
    state = torchvision.models.alexnet().state_dict()
    torch.save(state, offline / "alexnet-owt-7be5be79.pth")
    assert load_metrics("", "cpu").lpips is not None
