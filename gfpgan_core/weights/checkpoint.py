"""State dicts read from files and written to them: the only module that opens a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gfpgan_core.errors import WeightsError
from gfpgan_core.files import whole_file
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights import convert

# What damaged and foreign files make the readers raise.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    struct.error,
    pickle.UnpicklingError,
    SafetensorError,
)


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Names to tensors, and the metadata (of safetensors files only).

    Pickles are read without running their code. `params_ema` is preferred to `params`, a bare
    state dict is taken too; `module.` prefixes of data-parallel training are dropped.

    Raises:
        WeightsError: unreadable, or no state dict.
    """
    try:
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return state, file.metadata() or {}
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(f"{path} can't be read as weights: {error}") from error
    for key in ("params_ema", "params"):
        if isinstance(loaded, Mapping) and key in loaded:
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path} holds no state dict")
    if not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds more than tensors: export the weights of one network")
    return {name.removeprefix("module."): value for name, value in loaded.items()}, {}


def _is_safetensors(path: Path) -> bool:
    """By content: a file that went through a server may have lost its suffix."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # the length of a JSON header, then the header


def read_decoder(path: Path) -> dict[str, Tensor]:
    """The clean state dict of a StyleGAN2 decoder: ours, or the official prior's.

    Raises:
        WeightsError: unreadable, or of another form.
    """
    state, _ = read_state(path)
    return convert.to_clean(state) if convert.is_equalised(state) else state


def save_decoder(state: dict[str, Tensor], path: Path) -> None:
    """Writes a prior that `read_decoder` reads."""
    _save(state, path, {})


def save_safetensors(network: GFPGAN, path: Path) -> None:
    """Writes the weights with their configuration, so that `load_file` needs nothing else."""
    metadata = {"generator_config": json.dumps(dataclasses.asdict(network.config))}
    _save(network.state_dict(), path, metadata)


def _save(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        WeightsError: the disk is full, or the folder can't be written.
    """
    tensors = {name: value.cpu().contiguous() for name, value in state.items()}
    try:
        with whole_file(path) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} can't be written: {error}") from error
