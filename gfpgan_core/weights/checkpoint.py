"""Read state dicts from files and write them: the only module that opens a checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from gfpgan_core.bounds import MAX_TENSOR_NAME, MAX_TENSORS
from gfpgan_core.errors import WeightsError
from gfpgan_core.files import whole_file
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights import convert
from gfpgan_core.weights.foreign import kind_of, right_file
from gfpgan_core.weights.pickles import Foreign
from gfpgan_core.weights.safetensors_files import read_header
from gfpgan_core.weights.stored import Limits, StoredTensor, UnreadableError, WeightsFile, opened
from gfpgan_core.weights.torch_files import OLD_START, read_old, read_zip

# Where training tools keep the weights, the best first.
_STATE_KEYS = ("params_ema", "params", "state_dict")
_PREFIX = "module."  # of data-parallel training
_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64}


def read_state(path: Path, sha256: str = "") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return names to tensors, and the metadata (of safetensors files only).

    Pickles are interpreted without running their code. Of a training's checkpoint `params_ema` is
    preferred to `params` and `state_dict`; a bare state dict is taken too; `module.` prefixes of
    data-parallel training are dropped. Names, shapes and types are checked first: the tensors take
    no more memory than the file has bytes.

    Args:
        path: the file.
        sha256: what the file must have, if given, or its first digits, as torchvision's names tell
            them. The file that is hashed is the one that is read.

    Raises:
        WeightsError: unreadable, of another sha256, or no state dict.
    """
    try:
        with opened(path) as file:
            if sha256 and not (found := file.sha256()).startswith(sha256):
                raise UnreadableError(f"its sha256 is {found}, and should be {sha256}")
            stored, metadata = _described(file)
            state = {name: file.tensor(tensor) for name, tensor in stored.items()}
            file.check_unchanged()
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from error
    except (UnreadableError, MemoryError) as error:
        text = str(error) or "it needs more memory than there is"
        raise WeightsError(f"{path} can't be read as weights: {text}{right_file(path)}") from error
    return state, metadata


def _described(file: WeightsFile) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors that the file has, checked but not read, and its metadata.

    Raises:
        UnreadableError: no state dict.
    """
    head = file.read_at(0, 512)
    metadata: dict[str, str] = {}
    if head[8:9] == b"{":  # by content: a file that went through a server may have lost its suffix
        loaded, metadata = read_header(file)
    elif head.startswith(b"PK\3\4"):
        loaded = read_zip(file, Limits())
    elif head.startswith(OLD_START):
        loaded = read_old(file, Limits())
    else:
        raise UnreadableError(kind_of(head, file.size))
    state = _state_dict(loaded)
    file.check_sizes(state.values())
    return state, metadata


def _state_dict(loaded: Any) -> dict[str, StoredTensor]:
    """Find the state dict in what a file holds.

    Raises:
        UnreadableError: there is none, or it isn't one of weights alone.
    """
    if isinstance(loaded, dict):
        key = next((key for key in _STATE_KEYS if isinstance(loaded.get(key), dict)), None)
        loaded = loaded if key is None else loaded[key]
    if not isinstance(loaded, dict) or not loaded:
        raise UnreadableError(f"it holds no state dict but {_description(loaded)}")
    if len(loaded) > MAX_TENSORS:
        raise UnreadableError(f"it holds {len(loaded):,} entries; allowed are {MAX_TENSORS:,}")
    state = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or len(name) > MAX_TENSOR_NAME:
            raise UnreadableError(f"it holds no state dict: {str(name)[:80]!r} names no weight")
        if not isinstance(value, StoredTensor):
            raise UnreadableError(
                f"it holds more than tensors: {name!r} is {_description(value)}. Export the"
                f" weights of one network: a dictionary of tensors, bare or as {_STATE_KEYS[1]!r}"
            )
        if value.dtype not in _DTYPES:
            raise UnreadableError(
                f"{name} has values of type {_name(value.dtype)}; allowed:"
                f" {', '.join(sorted(map(_name, _DTYPES)))}"
            )
        state[name.removeprefix(_PREFIX)] = value
    if len(state) != len(loaded):
        raise UnreadableError(f"it holds some weights twice, with and without {_PREFIX!r}")
    return state


def _description(value: Any) -> str:
    if isinstance(value, Foreign):
        return f"an object of {value.name[:80]}"
    if isinstance(value, dict):
        names = ", ".join(str(key)[:40] for key in list(value)[:5])
        return f"a dictionary of {len(value)} entries ({names})" if value else "an empty dictionary"
    if isinstance(value, StoredTensor):
        return "one tensor"
    return f"a value of type {type(value).__name__}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def read_decoder(path: Path, sha256: str = "") -> dict[str, Tensor]:
    """Return the clean state dict of a StyleGAN2 decoder: ours, or the official prior's.

    Raises:
        WeightsError: unreadable, of another form, or not of the sha256 that is given.
    """
    state, _ = read_state(path, sha256)
    return convert.to_clean(state) if convert.is_equalized(state) else state


def save_tensors(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors alone, without a configuration: a prior, or a network of the losses."""
    _save(state, path, {})


def save_safetensors(
    network: GFPGAN, path: Path, *, half: bool = False, notes: Mapping[str, str] | None = None
) -> None:
    """Write the weights with their configuration, so that `load_file` needs nothing else.

    Args:
        half: as float16, half the bytes; they are read as float32 again.
        notes: further metadata.
    """
    metadata = {"generator_config": json.dumps(dataclasses.asdict(network.config))}
    state = network.state_dict()
    state = {name: value.half() for name, value in state.items()} if half else state
    _save(state, path, dict(notes or {}) | metadata)


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
