from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gfpgan_core import images, masks
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import MASKERS, PARSERS, load_masker, parsing_masker, template_masks
from gfpgan_core.weights.releases import WeightFile


@pytest.mark.parametrize("name", [name for name in MASKERS if name not in PARSERS])
def test_masks_are_zero_at_the_border_and_full_inside(name: str) -> None:
    masker = load_masker(name)
    for size in (512, 256, 64):
        (mask,) = masker([np.zeros((size, size, 3), np.uint8)])
        assert mask.shape == (size, size) and mask.dtype == np.float32
        border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
        assert border.max() < 0.002
        assert mask[size // 2, size // 2] == pytest.approx(1)


class _HalfParser(nn.Module):
    """Calls the left half skin (1 to both networks) and the right half something else."""

    def __init__(self, right: int) -> None:
        super().__init__()
        self.right = right
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x)
        logits = torch.zeros(len(x), 19, 512, 512)
        logits[:, 1, :, :256] = 1
        logits[:, self.right, :, 256:] = 1
        return logits


@pytest.mark.parametrize(("name", "cloth"), [("parsing", 18), ("parsing-fast", 16)])
def test_parsing_masks_follow_the_classes(name: str, cloth: int) -> None:
    masker = parsing_masker(PARSERS[name], _HalfParser(cloth), "cpu")
    (mask,) = masker([np.zeros((256, 256, 3), np.uint8)])
    assert mask.shape == (256, 256)
    assert mask[128, 60] == pytest.approx(1, abs=1e-3)
    assert mask[128, 200] < 1e-3


# The order of the classes, as the networks' authors publish them (PSFRGAN; face-parsing.PyTorch).
CLASSES = {
    "parsing": "background skin nose eye_g l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip"
    " hair hat ear_r neck_l neck cloth",
    "parsing-fast": "background skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth"
    " u_lip l_lip neck neck_l cloth hair hat",
}


def test_all_networks_paste_the_same_parts_of_the_head() -> None:
    assert set(CLASSES) == set(PARSERS)
    for name, classes in CLASSES.items():
        left_out = {"background", "hat", "neck_l", "neck", "cloth"}
        wanted = [i for i, part in enumerate(classes.split()) if part not in left_out]
        assert list(PARSERS[name].pasted_classes) == wanted


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("parsing", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("parsing-fast", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_a_network_sees_its_own_range(
    name: str, mean: list[float], std: list[float], portrait: ImageU8
) -> None:
    network = _HalfParser(0)
    parsing_masker(PARSERS[name], network, "cpu")([portrait])
    expected = (portrait / 255 - np.array(mean)) / np.array(std)
    seen = network.batches[0][0].permute(1, 2, 0).numpy()
    assert np.abs(seen - expected).max() < 1e-5


def _random_parser(name: str) -> nn.Module:
    """Untrained, but with normalizations that do something."""
    torch.manual_seed(0)
    network = PARSERS[name].build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)  # type: ignore[arg-type]
            for tensor in (module.bias.data, module.running_mean):
                nn.init.normal_(tensor, std=0.1)  # type: ignore[arg-type]
    return network.eval()


def _on_disk(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A random network in the place of the official file."""
    network = _random_parser(name)
    parser = PARSERS[name]
    path = folder / parser.file.name
    torch.save(network.state_dict(), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    file = WeightFile(path.name, "http://127.0.0.1:9", path.stat().st_size, sha256, "MIT")
    monkeypatch.setenv("GFPGAN_WEIGHTS_DIR", str(folder))
    monkeypatch.setitem(masks.PARSERS, name, dataclasses.replace(parser, file=file))
    return network


@pytest.mark.parametrize("name", PARSERS)
@torch.inference_mode()
def test_weights_on_disk_give_facexlibs_scores(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portrait: ImageU8
) -> None:
    theirs = _on_disk(name, tmp_path, monkeypatch)
    ours = masks.load_parser(PARSERS[name], tmp_path / PARSERS[name].file.name, "cpu")
    batch = images.to_pm1(portrait)[None, :, 128:384, 128:384]  # a quarter of the seconds
    expected, found = theirs(batch)[0], ours(batch)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    (mask,) = load_masker(name)([portrait])
    assert mask.shape == (512, 512)
    assert mask.min() >= 0 and mask.max() <= 1.001


def test_auto_takes_the_fastest_parser_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_masker("auto") is template_masks
    loaded = []
    monkeypatch.setattr(masks, "load_parser", lambda parser, *_: loaded.append(parser))
    for name in ("parsing", "parsing-fast"):
        _on_disk(name, tmp_path, monkeypatch)
        load_masker("auto")
        assert loaded[-1] is PARSERS[name]


def test_unknown_masks_are_refused() -> None:
    with pytest.raises(InputError, match="mask is 'unknown'; allowed: auto, template, "):
        load_masker("unknown")
