"""Folders of weights, as `export --to hub` writes and model hubs hold them."""

from __future__ import annotations

from pathlib import Path

from gfpgan_core.bounds import MAX_CONFIG_LENGTH
from gfpgan_core.errors import WeightsError
from gfpgan_core.files import sha256_of

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"


def weights_file(path: Path) -> Path:
    """Return the weight file in a folder; of anything else, the path itself."""
    inside = path / WEIGHTS_NAME
    return inside if path.is_dir() and inside.exists() else path


def weights_sha256(path: Path) -> str:
    """Return the sha256 of a weight file, or of the one in a folder.

    Raises:
        WeightsError: it can't be read.
    """
    try:
        return sha256_of(weights_file(path))
    except OSError as error:
        raise WeightsError(f"{path} can't be read as weights: {error.strerror or error}") from error


def description_in(path: Path) -> str | None:
    """Return the JSON that describes a folder's network; None where there is none.

    Raises:
        OSError: it can't be read.
    """
    file = path / CONFIG_NAME
    if not (path.is_dir() and file.is_file()):
        return None
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(MAX_CONFIG_LENGTH + 1)  # one too many is refused by who reads it
