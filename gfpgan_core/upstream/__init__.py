"""Upstream's `GFPGANer` and command line over our pipeline, for programs written for `gfpgan`.

`docs/from_upstream.md` says what to change in such a program: one line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfpgan_core.upstream.restorer import GFPGANer

__all__ = ["GFPGANer", "install"]


def install() -> None:
    """Let `import gfpgan` mean this package from now on, in this process.

    For programs that can't be edited: call it before they are imported. `from gfpgan import
    GFPGANer` and `gfpgan.utils` then give these, and `basicsr` and `realesrgan`, which today's
    torchvision breaks, can be imported.

    Raises:
        ImportError: the real `gfpgan` has been imported before.
    """
    from gfpgan_core.upstream.stand_in import put_in_place

    put_in_place()


def __getattr__(name: str) -> Any:
    """Import on first use: the command line sets the process up before torch is imported."""
    if name != "GFPGANer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gfpgan_core.upstream.restorer import GFPGANer

    return GFPGANer
