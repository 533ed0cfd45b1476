"""Load a restorer in a process that does little else; torch is imported on the way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfpgan_core.config import Background

if TYPE_CHECKING:
    from gfpgan_core.pipeline import FaceRestorer


def load_restorer(
    version: str,
    weights: Path | str | None,
    background: Background,
    device: str | None,
    **chosen: Any,
) -> FaceRestorer:
    """Set the process up and load the networks.

    Args:
        version: The name of a release.
        weights: A file or folder in its place, if given.
        background: Its network is loaded as well: absent weights end the run, not each photo.
        device: None: a GPU where there is one.
        chosen: `detector`, `mask` and `backend`, as `FaceRestorer` takes them.

    Raises:
        InputError: unknown version, device, detector, mask or back end.
        WeightsError: weights can't be had or are damaged.
    """
    from gfpgan_core.runtime import checked_device, configure_process

    configure_process()
    from gfpgan_core.background import load_background
    from gfpgan_core.pipeline import FaceRestorer

    if background != "none":
        load_background(background, checked_device(device))
    if weights:
        return FaceRestorer.from_file(weights, device=device, **chosen)
    return FaceRestorer.from_release(version, device=device, **chosen)
