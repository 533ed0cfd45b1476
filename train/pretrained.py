"""Find pretrained networks on this machine: in torch's hub folder, or in an installed package.

The files' names end with the first digits of their sha256, as torchvision names them. They are read
by our own reader, which compares these with what it reads. torch.hub would run any code that a
file in its folder holds (it unpickles without `weights_only`) and compares downloads alone.
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import torch
from torch import Tensor

from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.download import is_offline

_logger = logging.getLogger(__name__)


def hub_file(name: str) -> Path:
    """Return where torch.hub keeps the file of that name, which may not be there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def packaged_file(package: str, name: str) -> Path | None:
    """Return a file that an installed package carries, or None; the package isn't imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / name


def read_named(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a file whose name ends with its sha256's first digits.

    Raises:
        WeightsError: unreadable, or another file than its name says.
    """
    return read_state(path, path.stem.rpartition("-")[2])[0]


def read_if_there(path: Path | None) -> dict[str, Tensor] | None:
    """Return what `read_named` returns, or None without the file or for another one."""
    if path is None or not path.is_file():
        return None
    try:
        return read_named(path)
    except WeightsError as error:
        _logger.warning("not used: %s", error)
        return None


def read_from_hub(url: str) -> dict[str, Tensor]:
    """Return the state dict of torchvision's file, downloaded to the hub's folder if it is missing.

    Raises:
        WeightsError: missing while `GFPGAN_OFFLINE` is set, unreadable, or another file.
        OSError, RuntimeError: the download failed.
    """
    path = hub_file(url.rpartition("/")[2])
    if not path.is_file():
        if is_offline():
            raise WeightsError(f"{path} is not there, and GFPGAN_OFFLINE forbids the download")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2])
    return read_named(path)
