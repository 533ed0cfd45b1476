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
    """Everything that the next step depends on."""

    step: int
    """Steps done: the position in the data follows from it."""
    generator: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    random_state: torch.Tensor
    """torch's CPU generator (the decoder's noise)."""
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
