"""Import optional packages, and let other processes import this one."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
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


def python_path() -> str:
    """Return the PYTHONPATH with which another process finds this package where this one did."""
    root = str(Path(__file__).parents[2])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
