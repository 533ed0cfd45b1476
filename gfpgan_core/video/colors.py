"""Video frames to RGB and back by the color tags of the video, which stay what they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gfpgan_core.images import ImageU8

# Numbers of ISO/IEC 23091-2 (H.273), as the files have them.
_UNSPECIFIED = 2
_RGB, _BT709, _BT470BG, _BT601 = 0, 1, 5, 6
_PQ, _HLG = 16, 18
# Those that swscale converts by, under its names for them.
_SWSCALE_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
# FFmpeg's own.
_LIMITED, _FULL = 1, 2
# Players take a picture of fewer lines for BT.601 if it doesn't say what it is.
_HD_LINES = 720


@dataclass(frozen=True)
class Colors:
    """The color tags of a video: H.273's numbers; `range` is FFmpeg's: 1 limited, 2 full."""

    primaries: int = _UNSPECIFIED
    transfer: int = _UNSPECIFIED
    matrix: int = _UNSPECIFIED
    range: int = 0

    @classmethod
    def of(cls, frame: Any) -> Colors:
        """Return the tags of a decoded frame."""
        numbers = frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range
        return cls(*map(int, numbers))

    @property
    def is_hdr(self) -> bool:
        """Whether the values are brightness beyond a screen's white (PQ or HLG)."""
        return self.transfer in (_PQ, _HLG)

    def written(self, lines: int, lines_written: int) -> Colors:
        """Return the tags for a result of other height.

        They change only where they have to: RGB becomes YCbCr; and where the matrix was left to be
        guessed from the height, and would now be guessed differently, it is named.
        """
        if self.matrix == _RGB:
            return replace(self, matrix=_guessed(lines_written), range=_LIMITED)
        is_guessed = self.matrix == _UNSPECIFIED
        if is_guessed and _guessed(lines) != _guessed(lines_written):
            return replace(self, matrix=_guessed(lines))
        return self


def _guessed(lines: int) -> int:
    return _BT709 if lines >= _HD_LINES else _BT601


def _matrix(colors: Colors, lines: int) -> int:
    """Return swscale's number of the matrix."""
    matrix = colors.matrix if colors.matrix in _SWSCALE_MATRICES else _guessed(lines)
    return _SWSCALE_MATRICES[matrix]


def _quality() -> Any:
    from av.video.reformatter import Interpolation

    return (
        Interpolation.BICUBIC
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.FULL_CHR_H_INP
        | Interpolation.ACCURATE_RND
    )


def to_rgb(frame: Any) -> ImageU8:
    """Return a decoded frame as (H, W, 3) RGB."""
    rgb = frame.reformat(
        format="rgb24",
        src_colorspace=_matrix(Colors.of(frame), frame.height),
        dst_color_range=_FULL,
        interpolation=_quality(),
    )
    return np.asarray(rgb.to_ndarray(), np.uint8)


def to_frame(rgb: ImageU8, colors: Colors) -> Any:
    """Return (H, W, 3) RGB with even sides as a frame of 4:2:0 YCbCr with these tags."""
    from av import VideoFrame

    frame = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=_matrix(colors, rgb.shape[0]),
        src_color_range=_FULL,
        dst_color_range=colors.range or _LIMITED,
        interpolation=_quality(),
    )
    frame.color_primaries, frame.color_trc = colors.primaries, colors.transfer
    frame.colorspace, frame.color_range = colors.matrix, colors.range
    return frame


def is_transparent(frame: Any) -> bool:
    """Return whether any of the frame can be seen through."""
    components = frame.format.components
    if frame.format.name != "pal8" and not any(one.is_alpha for one in components):
        return False
    return bool(frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255)
