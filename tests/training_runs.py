"""Tiny trainings that several tests run, in this process and in others."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import HANG_S, ROOT, TINY
from faults import run_python

from train import checkpoint
from train.checkpoint import Checkpoint
from train.config import DiscriminatorConfig, LossConfig, TrainConfig
from train.loop import train


def tiny_run(faces: Path, run: Path, **values: object) -> TrainConfig:
    defaults: dict[str, object] = {
        "run_folder": str(run),
        "train_faces": str(faces),
        "generator": dataclasses.replace(TINY, residual=True),
        "steps": 6,
        "batch_size": 2,
        "workers": 0,
        "checkpoint_every_steps": 2,
        "warmup_steps": 2,
        "log_every_steps": 1,
    }
    return TrainConfig(**defaults | values)  # type: ignore[arg-type]


def full_losses(mobilenet: str, **values: Any) -> LossConfig:
    """Every term but the identity's; `mobilenet` is the file of its features' weights."""
    pixels = ("multiscale", "ssim", "detail", "gradient")
    terms = (*pixels, "perceptual", "adversarial", "component_adversarial")
    return LossConfig(
        style=1,
        component_style=1,
        perceptual_backbone="mobilenet_v2",
        perceptual_weights=mobilenet,
        **dict.fromkeys(terms, 0.1) | values,
    )


def full_run(faces: Path, run: Path, mobilenet: str, **values: object) -> TrainConfig:
    """Every term but the identity's, at a tiny size."""
    defaults: dict[str, object] = {
        "losses": full_losses(mobilenet, pyramid_end_step=4, r1_every_steps=2),
        "discriminators": DiscriminatorConfig(
            narrow=0.125, component_narrow=0.125, stddev_group=2, warmup_steps=1
        ),
    }
    return tiny_run(faces, run, **defaults | values)


def prior_run(faces: Path, run: Path, **values: object) -> TrainConfig:
    defaults: dict[str, object] = {
        "objective": "prior",
        "generator": dataclasses.replace(TINY, mlp_layers=2),
        "discriminators": DiscriminatorConfig(narrow=0.125, stddev_group=2),
        "losses": LossConfig(r1_every_steps=2, path_length_every_steps=2),
    }
    return tiny_run(faces, run, **defaults | values)


Maker = Callable[..., TrainConfig]


def makers(mobilenet: str) -> dict[str, Maker]:
    return {
        "pixels": tiny_run,
        "full": lambda faces, run, **v: full_run(faces, run, mobilenet, **v),
        "prior": prior_run,
    }


def newest(run: Path) -> Checkpoint:
    found = checkpoint.load_newest(run)
    assert found is not None
    return found


class PowerCutError(Exception):
    pass


def interrupt_after(config: TrainConfig, steps: int) -> None:
    """Runs a training that breaks down in the middle."""

    def fail(step: int, _: dict[str, float]) -> None:
        if step == steps:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(config, fail)


def run_process(
    config: TrainConfig,
    path: Path,
    *options: str,
    launcher: Sequence[str] = (),
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a real training process, or several; `before` is called in the new process."""
    path.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config)))))
    return run_python(*launcher, "-m", "train", "--config", path, *options, before=before)


_HOLD = """
import sys, time
from pathlib import Path
from typing import Any
from train.config_file import load_config
from train.loop import train
def hold(step, losses):
    if step == int(sys.argv[2]):
        print("held", flush=True)
        time.sleep(9999)
train(load_config(Path(sys.argv[1]), []), hold)
"""


def run_and_kill(config: Path, at_step: int) -> None:
    """Train in a process of its own, and kill it with its data workers after a step."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(config), str(at_step)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def kill() -> None:
        os.killpg(process.pid, signal.SIGKILL)

    watchdog = threading.Timer(HANG_S, kill)
    watchdog.start()
    assert process.stdout is not None
    held = process.stdout.readline()
    watchdog.cancel()
    kill()
    process.communicate()
    assert held == "held\n"


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
