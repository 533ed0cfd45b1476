"""A run's folder: lock it for one training, save the run's state, and resume from it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from torch import nn

from gfpgan_core.errors import InputError
from gfpgan_core.files import remove_partial_files, whole_file
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_safetensors, save_tensors
from train import checkpoint
from train.checkpoint import Checkpoint
from train.config import TrainConfig
from train.optimize import load_optimizer
from train.prior import PriorTrainer
from train.restoration import RestorationTrainer

_logger = logging.getLogger(__name__)

Trainer = RestorationTrainer | PriorTrainer

BEST = "best.safetensors"
LAST = "last.safetensors"
CONFIG = "config.yaml"


@contextlib.contextmanager
def own_run_folder(folder: Path) -> Iterator[None]:
    """Keep the folder for this training, and remove what a killed one left half written.

    Raises:
        InputError: it can't be written, or another training runs there.
    """
    try:
        with writing_into(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / ".lock", timeout=0)
            lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another training is running in {folder}: wait for it, or name another run_folder"
        ) from error
    try:
        remove_partial_files(folder)
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Turn a full disk or missing permissions into an InputError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, Timeout):  # of a lock: it is one of the system's errors
            raise
        raise InputError(
            f"run_folder {folder} can't be written ({error.strerror}): make room, change its"
            " permissions, or name another one"
        ) from error


def write_config(config: TrainConfig, folder: Path) -> None:
    """Write the resolved configuration: always the one that the run now goes on with."""
    with whole_file(folder / CONFIG) as temporary:
        temporary.write_text(yaml.safe_dump(plain(config), sort_keys=False), encoding="utf-8")


def resume(trainer: Trainer, config: TrainConfig, folder: Path) -> tuple[int, dict[str, float]]:
    """Return the steps done and the scalars of the newest checkpoint; 0 and none without one.

    Raises:
        InputError: the folder holds a run of other networks, or none of its checkpoints is whole.
    """
    found = checkpoint.load_newest(folder)
    if found is None:
        return 0, {}
    before, now = _with_defaults(found.config, _defaults()), plain(config)
    for key in ("generator", "objective"):
        if before[key] != now[key]:
            raise InputError(
                f"{folder} holds a run of another {key} ({_differences(before, now, key)}):"
                " name another run_folder to start anew"
            )
    if set(found.networks) != set(trainer.networks):
        raise InputError(
            f"{folder} holds a run with the networks {', '.join(found.networks)}; the losses now"
            f" chosen need {', '.join(trainer.networks)}: name another run_folder and start_from"
            f" its {LAST}"
        )
    if changed := _differences(before, now):
        _logger.warning("resuming with other values than before: %s", changed)
    _load(trainer, found)
    _logger.info("resuming %s after step %d", folder, found.step)
    if found.step > config.steps:
        _logger.warning(
            "nothing is left to train: steps is %d, and the weights are those after step %d."
            " For fewer steps name another run_folder",
            *(config.steps, found.step),
        )
    return found.step, dict(found.scalars)


def _load(trainer: Trainer, found: Checkpoint) -> None:
    for name, network in trainer.networks.items():
        network.load_state_dict(found.networks[name])
    trainer.ema.network.load_state_dict(found.ema)
    for name, optimizer in trainer.optimizers.items():
        load_optimizer(optimizer, found.optimizers[name])
    trainer.load_scalars(found.scalars)
    torch.set_rng_state(found.random_state)


def save_state(
    trainer: Trainer, config: TrainConfig, folder: Path, step: int, scalars: Mapping[str, float]
) -> None:
    """Write a checkpoint.

    Raises:
        TrainingError: it can't be written.
    """
    checkpoint.save(
        Checkpoint(
            step=step,
            networks={name: network.state_dict() for name, network in trainer.networks.items()},
            ema=trainer.ema.network.state_dict(),
            optimizers={name: o.state_dict() for name, o in trainer.optimizers.items()},
            scalars=dict(scalars) | trainer.scalars(),
            random_state=torch.get_rng_state(),
            config=plain(config),
        ),
        folder,
        config.keep_checkpoints,
    )


def plain(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as JSON types."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def _defaults() -> dict[str, Any]:
    return plain(TrainConfig(run_folder="", train_faces=""))


def _with_defaults(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a run that began before some options were there."""
    filled = {
        key: _with_defaults(value, defaults[key])
        if isinstance(value, dict) and isinstance(defaults.get(key), dict)
        else value
        for key, value in values.items()
    }
    return defaults | filled


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], below: str = "") -> str:
    """Return `key old -> new` of each value that differs, of all or of one group."""
    old, new = (_flat(values, "") for values in (before, now))
    return ", ".join(
        f"{key} {old.get(key)!r} -> {value!r}"
        for key, value in new.items()
        if old.get(key) != value and (not below or key.split(".")[0] == below)
    )


def _flat(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def export(network: nn.Module, path: Path) -> None:
    """Write the weights of a generator, or of a prior, to be used or trained on."""
    if isinstance(network, GFPGAN):
        save_safetensors(network, path)
    else:
        save_tensors(network.state_dict(), path)
