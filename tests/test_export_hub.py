"""Folders of weights as model hubs hold them: written, and read wherever weights are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import random_network
from safetensors.torch import save_file

from gfpgan_core import FaceRestorer
from gfpgan_core.__main__ import main
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.load import load_file


def test_a_hubs_folder_is_read_wherever_weights_are(tmp_path: Path) -> None:
    network = random_network(4)
    save_safetensors(network, tmp_path / "mine.safetensors")
    hub = tmp_path / "hub"
    command = ["export", str(tmp_path / "mine.safetensors"), "--to", "hub", "--output", str(hub)]
    assert main([*command, "--license", "mit"]) == 0
    read = load_file(hub)
    assert read.config == network.config
    for name, value in network.state_dict().items():
        assert torch.equal(read.state_dict()[name], value)
    assert FaceRestorer.from_file(hub).face_size_px == 64
    assert main([*command]) == 1  # nothing is replaced unasked


def test_a_hubs_configuration_stands_where_the_weights_have_none(tmp_path: Path) -> None:
    """As after other programs wrote `model.safetensors` anew: the shapes don't tell everything."""
    network = random_network(4)
    save_file(dict(network.state_dict()), tmp_path / "model.safetensors")
    described = {"face_size_px": 64, "channel_multiplier": 1, "narrow": 0.125}
    described |= {"style_features": 64, "residual": True}
    (tmp_path / "config.json").write_text(json.dumps(described))
    assert load_file(tmp_path).config == network.config


def test_the_card_has_the_hubs_metadata(tiny_weights: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    command = ["export", str(tiny_weights), "--to", "hub", "--output", str(tmp_path)]
    assert main([*command, "--license", "apache-2.0", "--name", "Aunt May"]) == 0
    card = hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.pipeline_tag == "image-to-image"
    assert "face-restoration" in card.data.tags
    assert "# Aunt May" in card.text
