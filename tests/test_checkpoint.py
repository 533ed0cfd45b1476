"""Checkpoint files: whole or not there."""

from __future__ import annotations

from pathlib import Path

import torch

from train import checkpoint
from train.checkpoint import Checkpoint


def _checkpoint(step: int, size: int = 10) -> Checkpoint:
    return Checkpoint(
        step=step,
        networks={"generator": {"weight": torch.full((size,), float(step))}},
        ema={"weight": torch.zeros(size)},
        optimizers={},
        scalars={},
        random_state=torch.get_rng_state(),
        config={},
    )


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(_checkpoint(2), tmp_path, keep=2)
    path = checkpoint.save(_checkpoint(4), tmp_path, keep=2)
    path.write_bytes(path.read_bytes()[:1000])
    found = checkpoint.load_newest(tmp_path)
    assert found is not None and found.step == 2


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoint.save(_checkpoint(step), tmp_path, keep=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_00000004.pt", "checkpoint_00000006.pt"]
