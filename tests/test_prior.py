"""The StyleGAN2 prior: how it starts."""

from __future__ import annotations

import dataclasses
import importlib

import pytest
import torch
import upstream  # noqa: F401 - makes the packaged networks importable
from conftest import ROOT, TINY

from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder
from train.config_file import load_config
from train.ema import Ema

pytestmark = pytest.mark.usefixtures("one_thread")


def _spread(mapping: torch.nn.Module) -> float:
    """Standard deviation of w over z, mean over the features."""
    with torch.no_grad():
        return mapping(torch.randn(500, 512)).std(dim=0).mean().item()


def test_the_mapping_network_starts_as_upstreams() -> None:
    """Else all z give one face: with torch's own initialization w varies by 0.0005 over z."""
    module = importlib.import_module("gfpgan.archs.stylegan2_clean_arch")
    config = dataclasses.replace(TINY, style_features=512, mlp_layers=8)
    ours, theirs = [], []
    for seed in range(4):
        torch.manual_seed(seed)
        network = module.StyleGAN2GeneratorClean(8, 512, 8, 1, narrow=1 / 32)
        theirs.append(_spread(network.style_mlp))
        ours.append(_spread(StyleGAN2Decoder(config).style_mlp))
    # One network's figure lies between 0.45 and 0.55, by chance.
    assert sum(ours) / 4 == pytest.approx(sum(theirs) / 4, rel=0.25)
    assert 0.35 < sum(theirs) / 4 < 0.65


@pytest.mark.parametrize("name", ["gfpgan_v1", "gfpgan_v1_simple", "prior"])
def test_the_papers_configurations_average_as_upstream(name: str) -> None:
    """Upstream keeps StyleGAN2's decay for 32 images a step, with 12 images a step."""
    config = load_config(ROOT / "configs" / f"{name}.yaml", [])
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.zero_()
        ema = Ema(network, config.ema_half_life_images)
        network.weight.fill_(1)
    ema.update(network, config.batch_size, seen_images=10_000_000)
    assert ema.network.weight.item() == pytest.approx(1 - 0.5 ** (32 / 10_000), rel=1e-4)
