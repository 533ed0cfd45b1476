"""Save and load checkpoints that resume bit for bit; files are written whole or not at all."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gfpgan_core.bounds import MAX_CHECKPOINT_BYTES
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.files import remove_partial_files, whole_file
from gfpgan_core.weights.saved import read_saved
from gfpgan_core.weights.stored import Limits
from train.errors import TrainingError

_logger = logging.getLogger(__name__)

_PATTERN = "checkpoint_*.pt"
_LIMITS = Limits(file_bytes=MAX_CHECKPOINT_BYTES)
_KINDS = {
    "step": int,
    "networks": dict,
    "ema": dict,
    "optimizers": dict,
    "scalars": dict,
    "random_state": torch.Tensor,
    "config": dict,
}


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on.

    Learning rates, the position in the data, and every random draw of a run (photos, flips,
    degradations, noise) follow from the seed and the step, which are saved. torch's own generator
    is saved beside them.
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


def save(checkpoint: Checkpoint, folder: Path, keep: int) -> Path:
    """Write the checkpoint, remove all but the newest `keep`, and return the file written.

    Raises:
        TrainingError: it can't be written, on a full disk, say. Earlier checkpoints stay.
    """
    path = folder / f"checkpoint_{checkpoint.step:08d}.pt"
    try:
        remove_partial_files(folder)
        with whole_file(path) as temporary, temporary.open("wb") as file:
            torch.save(vars(checkpoint), file)
    # torch's own error hides the system's: "unexpected pos 704 vs 598" is a full disk.
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__ or error
        raise TrainingError(
            f"the checkpoint {path} can't be written: {cause}. Make room, or give the folder back"
            " its permissions; the same command then goes on from the checkpoint before"
        ) from error
    for old in sorted(folder.glob(_PATTERN))[:-keep]:
        old.unlink(missing_ok=True)
    return path


def load_newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is undamaged, or None where there are none.

    Raises:
        InputError: there are checkpoints, and none can be read.
    """
    paths = sorted(folder.glob(_PATTERN), reverse=True)
    for path in paths:
        try:
            return _load(path)
        except WeightsError as error:
            _logger.warning("%s: trying the checkpoint before it", error)
    if paths:
        raise InputError(
            f"none of the {len(paths)} checkpoints in {folder} can be read: put an undamaged"
            f" copy of {paths[0].name} there, or remove them all to start the run anew"
        )
    return None


def _load(path: Path) -> Checkpoint:
    """Raises `WeightsError` if the file is cut off, damaged, or no checkpoint."""
    # All that it holds, the optimizers' state too, are plain values and tensors.
    values = read_saved(path, _LIMITS, checksums=True)
    if not isinstance(values, dict) or values.keys() != _KINDS.keys():
        raise WeightsError(f"{path} can't be read: it is no checkpoint of a training")
    for name, kind in _KINDS.items():
        if not isinstance(values[name], kind):
            raise WeightsError(f"{path} can't be read: its {name} is no {kind.__name__}")
    return Checkpoint(**values)
