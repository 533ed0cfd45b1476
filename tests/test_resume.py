"""Runs that are interrupted, killed, and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import HANG_S, ROOT, TINY
from faults import run_python
from training_runs import interrupt_after, makers, newest, tiny_run

from gfpgan_core import FaceRestorer, RestoreOptions
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from train import checkpoint
from train.errors import TrainingError
from train.loop import train

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
    run, path = tmp_path / "run", tmp_path / "config.yaml"
    config = dataclasses.asdict(tiny_run(faces, run, steps=100_000, checkpoint_every_steps=2))
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config))))
    command = [sys.executable, "-m", "train", "--config", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + HANG_S
    while len(list(run.glob("checkpoint_*.pt"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stopped_at = newest(run).step
    assert 4 <= stopped_at < 100_000
    export = tmp_path / "own.safetensors"
    result = run_python(*command[1:], "--set", f"steps={stopped_at + 2}", "--export", export)
    assert result.returncode == 0, result.stderr
    assert f"other values than before: steps 100000 -> {stopped_at + 2}" in result.stderr
    assert f"resuming {run} after step {stopped_at}" in result.stderr
    assert newest(run).step == stopped_at + 2
    # The killed run may have been some steps beyond its checkpoint: each step is told once.
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").open()]
    assert steps == list(range(1, stopped_at + 3))
    assert yaml.safe_load((run / "config.yaml").read_text())["steps"] == stopped_at + 2
    restorer = FaceRestorer.from_file(export, device="cpu")
    restored = restorer.restore(faces / "0.png", RestoreOptions(aligned=True, scale=1))
    assert restored.image.shape == (96, 96, 3)


def test_the_log_and_the_configuration_are_those_of_the_run_that_goes_on(
    faces: Path, tmp_path: Path
) -> None:
    interrupt_after(tiny_run(faces, tmp_path), 3)  # one step behind its checkpoint
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"step": 4, "sec')  # a line that a kill has cut off
    train(tiny_run(faces, tmp_path, steps=4, learning_rate=1e-4))
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").open()]
    assert steps == [1, 2, 3, 4]
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (written["steps"], written["learning_rate"]) == (4, 1e-4)


def test_a_run_that_began_before_an_option_was_there_resumes(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tiny_run(faces, tmp_path, steps=2))
    found = newest(tmp_path)
    for key in ("on_bad_face", "check_faces", "seed"):
        del found.config[key]
    del found.config["generator"]["mlp_layers"]
    (tmp_path / "faces.json").unlink()
    checkpoint.save(found, tmp_path, keep=2)
    config = tiny_run(faces, tmp_path, steps=3)
    assert config.generator.mlp_layers == GeneratorConfig().mlp_layers
    train(config)
    assert "other values than before: steps 2 -> 3" in caplog.text


def test_a_run_with_more_steps_than_asked_for_says_so(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for steps in (2, 1):
        train(tiny_run(faces, tmp_path, steps=steps))
    assert "steps is 1, and the weights are those after step 2" in caplog.text
    assert newest(tmp_path).step == 2


def test_faces_that_came_or_went_are_noticed(
    faces: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "faces"
    shutil.copytree(faces, own)
    train(tiny_run(own, tmp_path / "run", steps=2))
    train(tiny_run(own, tmp_path / "run", steps=4))
    assert "isn't what it was" not in caplog.text
    (own / "0.png").unlink()
    (own / "1.png").write_bytes((own / "2.png").read_bytes())
    shutil.copy(own / "3.png", own / "new.png")
    train(tiny_run(own, tmp_path / "run", steps=6))
    assert "1 added (new.png); 1 removed (0.png); 1 changed (1.png)" in caplog.text


def test_one_training_at_a_time_uses_a_run_folder(faces: Path, tmp_path: Path) -> None:
    def start_another(step: int, _: dict[str, float]) -> None:
        with pytest.raises(InputError, match="another training is running in"):
            train(tiny_run(faces, tmp_path))

    train(tiny_run(faces, tmp_path, steps=1), start_another)


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
