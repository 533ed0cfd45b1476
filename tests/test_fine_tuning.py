"""docs/fine-tuning.md: its commands in their order, with a small network and two steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pages
import pytest
import yaml
from conftest import ROOT, random_network

from gfpgan_core import geometry, images
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.images import ImageU8
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.load import load_file
from scripts import evaluate
from train.metrics import Metrics

_SMALL = GeneratorConfig(64, 1, 0.03125, 8, 0, residual=True)
_SHORT = {"steps": 2, "workers": 0, "batch_size": 2, "warmup_steps": 1, "log_every_steps": 1}


@pytest.fixture
def folder(
    portrait: ImageU8, mobilenet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Photos by the names that the page gives them, and the configuration, made small."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    monkeypatch.setattr(evaluate, "load_metrics", lambda *_: Metrics())  # they take seconds
    for number, name in enumerate(
        ("photos/a", "photos/b", "held_out_photos/c", "me/d", "me/e", "me_held_out/f", "photo")
    ):
        Path(name).parent.mkdir(exist_ok=True)
        crop = portrait[: 240 - 3 * number, 100 + 2 * number : 345]
        photo = np.asarray(geometry.resize(crop, (480, 480)), np.uint8)
        images.write(Path(f"{name}.jpg"), images.encode(photo, None, "jpg"))
    path = Path("configs/finetune_compact.yaml")
    values = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    small = {"face_size_px": 64, "narrow": 0.03125, "style_features": 8, "mlp_layers": 0}
    values["generator"] = {**small, "channel_multiplier": 1, "residual": True}
    values["discriminators"] |= {"component_narrow": 0.0625, "warmup_steps": 1, "crop_px": 32}
    values["losses"] |= {"projected_weights": mobilenet, "perceptual_weights": mobilenet}
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(values | _SHORT | {"start_from": "start.safetensors"}))
    save_safetensors(random_network(0, _SMALL), Path("start.safetensors"))
    return tmp_path


def test_the_commands_work_in_their_order(
    folder: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = []
    for command in pages.commands("fine-tuning.md"):
        if command.startswith("pip install"):
            continue  # changes the environment that runs the tests
        short = command.replace("--set steps=60", "--set steps=3").replace(
            "--weights compact", "--weights start.safetensors"
        )
        assert pages.run(short) == 0, command
        tried.append(command.split()[2])
    assert tried.count("train") == 2 and "scripts.prepare_faces" in tried
    for name in ("own", "me"):
        assert load_file(Path(f"{name}.safetensors")).config.face_size_px == 64
    assert Path("sheet.png").is_file() and list(Path("restored").glob("photo*"))
    out = capsys.readouterr().out
    for row in ("| start | finetune_compact |", "| own | finetune_compact |", "| me | "):
        assert row in out
