"""Runs that are interrupted, killed, and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, TINY
from training_runs import interrupt_after, makers, newest, tiny_run

from gfpgan_core import FaceRestorer, RestoreOptions
from gfpgan_core.errors import InputError
from train import checkpoint
from train.loop import train
from train.optimise import TrainingError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", ["pixels", "full", "prior"])
def test_resuming_equals_never_stopping_bit_for_bit(
    faces: Path, tmp_path: Path, mobilenet: str, kind: str
) -> None:
    make = makers(mobilenet)[kind]
    train(make(faces, tmp_path / "whole"))
    interrupt_after(make(faces, tmp_path / "parts", workers=1), 3)
    assert newest(tmp_path / "parts").step == 2
    train(make(faces, tmp_path / "parts"))
    whole, parts = newest(tmp_path / "whole"), newest(tmp_path / "parts")
    assert whole.step == parts.step == 6
    assert (
        set(whole.networks)
        == {
            "pixels": {"generator"},
            "full": {"generator", "discriminator", "left_eye", "right_eye", "mouth"},
            "prior": {"generator", "discriminator"},
        }[kind]
    )
    pairs = [(whole.networks[name], parts.networks[name]) for name in whole.networks]
    for ours, theirs in [*pairs, (whole.ema, parts.ema)]:
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.scalars == parts.scalars


def test_a_killed_process_resumes(faces: Path, tmp_path: Path) -> None:
    """SIGKILL at an arbitrary moment of a real run; what is on disk is whole."""
    path = tmp_path / "config.yaml"
    config = dataclasses.asdict(
        tiny_run(faces, tmp_path / "run", steps=400, checkpoint_every_steps=1)
    )
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config))))
    command = [sys.executable, "-m", "train", "--config", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("checkpoint_0000000[3-9].pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stopped_at = newest(tmp_path / "run").step
    assert 3 <= stopped_at < 400
    result = subprocess.run(
        [
            *command,
            "--set",
            f"steps={stopped_at + 2}",
            "--export",
            str(tmp_path / "own.safetensors"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "resuming with other values than before of: steps" in result.stderr
    assert f"resuming {tmp_path / 'run'} after step {stopped_at}" in result.stderr
    assert newest(tmp_path / "run").step == stopped_at + 2
    restorer = FaceRestorer.from_file(tmp_path / "own.safetensors", device="cpu")
    restored = restorer.restore(faces / "0.png", RestoreOptions(aligned=True, scale=1))
    assert restored.image.shape == (96, 96, 3)


def test_a_loss_that_isnt_finite_stops_the_run_and_keeps_the_checkpoint(
    faces: Path, tmp_path: Path
) -> None:
    train(tiny_run(faces, tmp_path, steps=2))
    found = newest(tmp_path)
    found.networks["generator"]["final_conv.bias"][0] = torch.nan
    checkpoint.save(dataclasses.replace(found, step=3), tmp_path, keep=2)
    with pytest.raises(TrainingError, match="is nan at step 4: lower the learning rates"):
        train(tiny_run(faces, tmp_path, steps=6))
    assert newest(tmp_path).step == 3


def test_a_run_folder_of_another_generator_is_refused(faces: Path, tmp_path: Path) -> None:
    train(tiny_run(faces, tmp_path, steps=2))
    other = dataclasses.replace(TINY, style_features=32)
    with pytest.raises(InputError, match="another generator"):
        train(tiny_run(faces, tmp_path, generator=other))
