"""A module called `gfpgan` that is this package, for programs that can't be edited."""

from __future__ import annotations

import sys
import types
from typing import Any

from gfpgan_core import compat

# The version of the package that is replaced; programs print and compare it.
_VERSION = "1.3.8"
_MARK = "__stands_in_for_gfpgan__"


def put_in_place() -> None:
    """See `gfpgan_core.upstream.install`."""
    found = sys.modules.get("gfpgan")
    if found is not None and not hasattr(found, _MARK):
        raise ImportError(
            "gfpgan has been imported already, so that parts of this program use it: call"
            " gfpgan_core.upstream.install() before anything imports it"
        )
    compat.restore_functional_tensor()
    package, utils = _module("gfpgan"), _module("gfpgan.utils")
    package.__dict__.update(__path__=[], utils=utils)  # a path makes it a package
    sys.modules.update({"gfpgan": package, "gfpgan.utils": utils})


def _module(name: str) -> types.ModuleType:
    module = types.ModuleType(name, "gfpgan_core.upstream in the place of gfpgan.")
    module.__dict__.update({_MARK: True, "__version__": _VERSION, "__all__": ["GFPGANer"]})

    def get(attribute: str) -> Any:
        if attribute == "GFPGANer":
            from gfpgan_core.upstream.restorer import GFPGANer

            return GFPGANer
        raise AttributeError(
            f"{name} has no {attribute!r} here: gfpgan_core.upstream offers GFPGANer alone"
        )

    module.__getattr__ = get  # type: ignore[method-assign]
    return module
