"""Workarounds that let old dependencies run with today's libraries."""

from __future__ import annotations

import sys
import types


def restore_functional_tensor() -> None:
    """Let basicsr 1.4.2, and so realesrgan 0.3.0, be imported.

    It imports `rgb_to_grayscale` from `torchvision.transforms.functional_tensor`, which went with
    torchvision 0.17. `tests/test_compat.py` fails once basicsr no longer needs this.
    """
    from torchvision.transforms import functional  # a second: torchvision imports a compiler

    name = "torchvision.transforms.functional_tensor"
    module = types.ModuleType(name)
    module.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules.setdefault(name, module)
