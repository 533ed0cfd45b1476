"""Blind face restoration with GFPGAN and RestoreFormer."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfpgan_core.config import RestoreOptions
    from gfpgan_core.pipeline import FaceRestorer, Restoration

__all__ = ["FaceRestorer", "Restoration", "RestoreOptions"]

_HOME = {
    "FaceRestorer": "gfpgan_core.pipeline",
    "Restoration": "gfpgan_core.pipeline",
    "RestoreOptions": "gfpgan_core.config",
}


def __getattr__(name: str) -> Any:
    """Imports on first use: `python -m gfpgan_core --help` doesn't wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
