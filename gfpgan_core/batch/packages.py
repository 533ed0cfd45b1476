"""The optional packages that batches need."""

from __future__ import annotations

import importlib
from typing import Any

from gfpgan_core.errors import InputError


def require(name: str) -> Any:
    """Return an optional module.

    Raises:
        InputError: its package isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = "ray" if name.startswith("ray") else "batch"
        raise InputError(
            f'this needs the package {name.partition(".")[0]}: pip install "gfpgan-core[{extra}]"'
        ) from error
