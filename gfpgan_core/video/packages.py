"""What videos need beside the other requirements."""

from __future__ import annotations

import importlib
from typing import Any

from gfpgan_core.errors import InputError


def require_av() -> Any:
    """Return PyAV's module.

    Raises:
        InputError: the package isn't installed.
    """
    try:
        return importlib.import_module("av")
    except ImportError as error:
        raise InputError(
            "videos need PyAV, and Python 3.11 or newer: pip install 'av>=18,<19'"
        ) from error
