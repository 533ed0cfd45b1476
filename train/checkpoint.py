"""Checkpoints that resume bit for bit: written to a temporary file, then renamed."""

from __future__ import annotations

import logging
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on.

    Learning rates, the place in the data, and every draw of a run (photos, flips, degradations,
    noise) are functions of the seed and the step: they are saved by saving these two. torch's own
    generator is saved beside them.
    """

    step: int
    """Steps done."""
    networks: dict[str, dict[str, torch.Tensor]]
    """State dicts by name: generator, discriminator, ..."""
    ema: dict[str, torch.Tensor]
    optimizers: dict[str, dict[str, Any]]
    scalars: dict[str, float]
    """Running means of the objective, and the best validation so far."""
    random_state: torch.Tensor
    config: dict[str, Any]


def _path(folder: Path, step: int) -> Path:
    return folder / f"checkpoint_{step:08d}.pt"


def save(checkpoint: Checkpoint, folder: Path, keep: int) -> Path:
    """The file written; only the newest `keep` stay. A kill at any moment leaves whole files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(folder, checkpoint.step)
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        torch.save(vars(checkpoint), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    for old in sorted(folder.glob("checkpoint_*.pt"))[:-keep]:
        old.unlink()
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that can be read, or None where there is none."""
    for path in sorted(folder.glob("checkpoint_*.pt"), reverse=True):
        try:
            return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, TypeError) as error:
            _logger.warning("%s can't be read (%s): trying the one before it", path, error)
    return None
