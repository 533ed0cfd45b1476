"""Blind face restoration with GFPGAN and RestoreFormer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfpgan_core.config import RestoreOptions
    from gfpgan_core.pipeline import FaceRestorer
    from gfpgan_core.result import Restoration

__version__ = "0.2.0"

__all__ = ["FaceRestorer", "Restoration", "RestoreOptions"]

_MODULE_OF = {
    "FaceRestorer": "gfpgan_core.pipeline",
    "Restoration": "gfpgan_core.result",
    "RestoreOptions": "gfpgan_core.config",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `python -m gfpgan_core --help` doesn't wait for torch."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)
