"""Enlarge the photo by what upstream's callers pass as `bg_upsampler`."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from gfpgan_core.background import BackgroundUpsampler, load_background
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.upstream.arrays import AnyPicture, flipped, levels_u8

# The name that upstream's command line has for its only network.
_UPSTREAMS_NAME = {"realesrgan": "realesrgan-x2plus"}


def checked(upsampler: Any, device: str) -> Any:
    """Return what `enlarge` takes: None, one of our networks, or an object with `enhance`.

    Args:
        upsampler: one of these, or the name of one of our networks, which is loaded.
        device: for our networks.

    Raises:
        InputError: something else.
        WeightsError: a named network's weights can't be had.
    """
    if upsampler is None or upsampler == "none":
        return None
    if isinstance(upsampler, str):
        return load_background(_UPSTREAMS_NAME.get(upsampler, upsampler), device)
    if isinstance(upsampler, BackgroundUpsampler) or callable(getattr(upsampler, "enhance", None)):
        return upsampler
    raise InputError(
        f"bg_upsampler is of type {type(upsampler).__name__}; allowed: None, an object with"
        " enhance(img, outscale=...), or a name such as realesrgan-x4v3"
    )


def enlarge(
    upsampler: Any, picture: AnyPicture, bgr: ImageU8, scale: float, size_wh: tuple[int, int]
) -> tuple[ImageU8, ImageU8 | None]:
    """Return the photo at `size_wh`, (H, W, 3) RGB, and the alpha that the upsampler gave, if any.

    Args:
        upsampler: what `checked` returned, None excepted.
        picture: what the caller gave, which an object's `enhance` gets as it is.
        bgr: the same as (h, w, 3), 0..255.
        scale: which an object's `enhance` gets.
        size_wh: of the result.

    Raises:
        InputError: the object returned no picture.
    """
    if isinstance(upsampler, BackgroundUpsampler):
        return upsampler(flipped(bgr), size_wh), None
    given = picture if isinstance(picture, np.ndarray) else bgr
    levels = levels_u8(upsampler.enhance(given, outscale=scale)[0])
    if (levels.shape[1], levels.shape[0]) != size_wh:
        levels = np.asarray(cv2.resize(levels, size_wh, interpolation=cv2.INTER_LANCZOS4), np.uint8)
    if levels.ndim == 2:
        return np.asarray(cv2.cvtColor(levels, cv2.COLOR_GRAY2RGB), np.uint8), None
    alpha = levels[..., 3].copy() if levels.shape[2] == 4 else None
    return flipped(np.ascontiguousarray(levels[..., :3])), alpha
