"""A decoded picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gfpgan_core.formats import Format
from gfpgan_core.images.metadata import Metadata

ImageU8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """A decoded image, upright and in sRGB."""

    rgb: ImageU8
    """(H, W, 3), 0..255."""
    alpha: ImageU8 | None = None
    """(H, W), 0..255; None: opaque."""
    format: Format = "png"
    """Of the result where none is asked for: see `formats.default_format`."""
    dpi: tuple[float, float] | None = None
    """Pixels per inch, across and down, if the file says so."""
    page: int = 1
    """Which of the file's pages or frames this is, from 1."""
    pages: int = 1
    """Pages or frames in the file; at most `bounds.MAX_PAGES` of a TIFF are counted."""
    metadata: Metadata = field(default_factory=Metadata)
    """Date, camera and place."""
