"""The command line with a restorer that needs no network, nor torch: for tests that interrupt, kill
or starve a real process.

    python tests/slow_cli.py SECONDS_PER_PHOTO restore PHOTO...
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from gfpgan_core.__main__ import main
from gfpgan_core.cli import restore
from gfpgan_core.errors import InputError


@dataclass(frozen=True)
class _Copy:
    """What the command line asks of a `Restoration`."""

    image: Any
    faces: list[Any] = field(default_factory=list)
    crops: list[Any] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    left_alone: list[Any] = field(default_factory=list)
    pages: int = 1
    is_interlaced: bool = False
    is_scale_limited: bool = False
    metadata: Any = field(default_factory=lambda: SimpleNamespace(profile="", taken="", device=""))

    def found(self) -> str:
        return f"{len(self.faces)} faces"

    def format_for(self, wanted: str) -> str:
        return "png" if wanted == "auto" else wanted

    def encode(self, file_format: str, *, keep_gps: bool = False) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, file_format)
        return buffer.getvalue()


@dataclass(frozen=True)
class SlowRestorer:
    """Hands each photo back as it is, after a while."""

    seconds_per_photo: float

    def restore_many(self, photos: Iterable[Path], _: object) -> Iterator[_Copy | InputError]:
        for path in photos:
            time.sleep(self.seconds_per_photo)
            try:
                yield _Copy(np.asarray(Image.open(path)))
            except OSError as error:
                yield InputError(str(error))


def command(seconds_per_photo: float, *arguments: object) -> list[str]:
    """What to run for `gfpgan restore ARGUMENTS`."""
    return [sys.executable, __file__, str(seconds_per_photo), "restore", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Where the program finds the package; with Python's own buffering, as users have it."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return {**inherited, "PYTHONPATH": str(Path(__file__).parent.parent)}


if __name__ == "__main__":
    restore.load_restorer = lambda _: SlowRestorer(float(sys.argv[1]))  # type: ignore[assignment, return-value]
    sys.exit(main(sys.argv[2:]))
