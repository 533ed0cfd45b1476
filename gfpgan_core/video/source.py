"""Read a video: what it holds, and its frames one after the other."""

from __future__ import annotations

import contextlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8, check_input_size
from gfpgan_core.video.colors import Colors, is_transparent, to_rgb
from gfpgan_core.video.packages import require_av

# Containers that hold their own streams: playlists would name other files and addresses.
_CONTAINERS = (
    *("apng", "asf", "avi", "dv", "flv", "gif", "h264", "hevc", "m4v", "matroska", "webm", "mov"),
    *("mp4", "m4a", "3gp", "3g2", "mj2", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "rm"),
    *("yuv4mpegpipe", "wtv"),
)
# Of what the file says it holds: less is a file that was cut off, not rounding.
_LEAST_SHARE = 0.98
_LEAST_MISSING_S = 0.5


@dataclass(frozen=True)
class Video:
    """What is known of a video once it has been decoded from end to end."""

    path: Path
    stream: int
    """The index of its picture among the file's streams."""
    size_wh: tuple[int, int]
    """As coded, before rotation."""
    frames: int
    time_base: Fraction
    """Seconds of a unit of time."""
    rate: Fraction
    """Frames a second, on the average."""
    colors: Colors
    display_matrix: tuple[int, ...] | None
    """How players turn and mirror it, if they do."""
    quarter_turns: int
    """Counterclockwise, which make it upright."""
    pixel_aspect: Fraction | None
    """Width of a pixel relative to its height, if the file says it."""
    bits: int
    """Of a sample."""
    is_interlaced: bool

    @property
    def upright_wh(self) -> tuple[int, int]:
        """The size in pixels as it is shown."""
        return self.size_wh[::-1] if self.quarter_turns % 2 else self.size_wh


@dataclass(frozen=True)
class Frame:
    """One picture."""

    rgb: ImageU8
    """(H, W, 3), upright."""
    pts: int
    """When it is shown, in units of the video's time base."""
    duration: int


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a video file's container, which reads nothing but this file.

    Raises:
        InputError: it is no file, or none that is read.
    """
    av = require_av()
    if not path.is_file():
        raise InputError(f"{path} is no file: name a video on this machine")
    options = {"format_whitelist": ",".join(_CONTAINERS), "protocol_whitelist": "file"}
    try:
        container = av.open(
            str(path.absolute()), container_options=options, metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError) as error:
        raise InputError(
            f"{path} can't be read as a video ({getattr(error, 'strerror', error)}): it is damaged,"
            " cut off, or something else; photos are for `gfpgan restore`"
        ) from error
    with container:
        yield container


def scan(path: Path) -> Video:
    """Decode a video from end to end, so that what is wrong with it is known before hours of work.

    Raises:
        InputError: it can't be restored: the text says why.
    """
    av = require_av()
    with opened(path) as container:
        stream = _picture_of(container, path)
        if stream.metadata.get("alpha_mode") == "1":  # in VP9, beside the picture
            raise _transparent(path)
        first: Any = None
        frames, bits, is_interlaced, end = 0, 8, False, Fraction(0)
        try:
            for frame, pts, duration in _timed(container, stream):
                if first is None:
                    first = frame
                    _check_first(frame, path)
                    start = pts
                if (frame.width, frame.height) != (first.width, first.height):
                    raise InputError(
                        f"{path}: the picture's size changes from {first.width}x{first.height} to"
                        f" {frame.width}x{frame.height} px: split it there, or convert it first"
                    )
                if is_transparent(frame):
                    raise _transparent(path)
                frames += 1
                is_interlaced = is_interlaced or frame.interlaced_frame
                end = (pts + duration - start) * stream.time_base
        except av.FFmpegError as error:
            raise InputError(
                f"{path} is damaged after {float(end):.2f} s ({error.strerror}): repair or"
                " convert it first"
            ) from error
        if first is None:
            raise InputError(
                f"{path} has no frame that can be decoded: there is nothing to restore"
            )
        _check_whole(path, stream, frames, end)
        bits = max(component.bits for component in first.format.components)
        turns = round(first.rotation / 90) % 4
        return Video(
            path=path,
            stream=stream.index,
            size_wh=(first.width, first.height),
            frames=frames,
            time_base=stream.time_base,
            rate=_rate(stream, frames, end),
            colors=Colors.of(first),
            display_matrix=_display_matrix(first),
            quarter_turns=turns,
            pixel_aspect=stream.sample_aspect_ratio or None,
            bits=bits,
            is_interlaced=is_interlaced,
        )


def read_frames(video: Video) -> Iterator[Frame]:
    """Yield the video's frames, upright, in the order of their times."""
    with opened(video.path) as container:
        stream = container.streams[video.stream]
        for frame, pts, duration in _timed(container, stream):
            upright = np.rot90(to_rgb(frame), video.quarter_turns)
            yield Frame(np.ascontiguousarray(upright), pts, duration)


def _picture_of(container: Any, path: Path) -> Any:
    """Return the stream with the moving picture; covers of albums are none."""
    attached = require_av().stream.Disposition.attached_pic
    moving = [one for one in container.streams.video if not one.disposition & attached]
    if not moving:
        raise InputError(f"{path} has no moving picture in it: there is nothing to restore")
    stream = max(moving, key=lambda one: one.width * one.height)
    if stream.codec_context is None:
        raise InputError(f"{path} holds a kind of video that can't be decoded here")
    stream.thread_type = "AUTO"
    return stream


def _timed(container: Any, stream: Any) -> Iterator[tuple[Any, int, int]]:
    """Yield decoded frames with time and duration, where the file leaves them out as well.

    Times grow from frame to frame, as every container wants them. A frame lasts until the next:
    what files say of the duration is that of another frame where they are stored out of order.
    """
    usual = Fraction(1) / (stream.average_rate or stream.guessed_rate or 25)
    step = max(1, round(usual / stream.time_base))
    before: Any = None
    pts = 0
    for frame in container.decode(stream):
        if before is None:
            now = frame.pts or 0
        else:
            now = max(pts + 1, pts + (before.duration or step) if frame.pts is None else frame.pts)
            yield before, pts, now - pts
        before, pts = frame, now
    if before is not None:
        yield before, pts, before.duration or step


def _check_first(frame: Any, path: Path) -> None:
    check_input_size(frame.width, frame.height, name=str(path))
    if Colors.of(frame).is_hdr:
        raise InputError(
            f"{path} is HDR video (PQ or HLG), which the networks don't know and 8 bits don't hold:"
            " convert it to SDR (BT.709) first"
        )


def _transparent(path: Path) -> InputError:
    return InputError(
        f"{path} has transparent parts, which H.264 can't hold: put it on a background first"
    )


def _check_whole(path: Path, stream: Any, frames: int, end: Fraction) -> None:
    """Compare what was decoded with what the file says it holds.

    Raises:
        InputError: a part is missing at the end.
    """
    stated = stream.frames
    if frames < _LEAST_SHARE * stated:
        stored, shown = _packets(path, stream.index)
        if stored >= _LEAST_SHARE * stated:  # trimmed ones are stored, but not shown
            stated = min(stated, shown)
    if frames < _LEAST_SHARE * stated:
        raise InputError(
            f"{path} was cut off: {frames} of its {stated} frames can be decoded; convert what is"
            " left of it first"
        )
    seconds = _stated_seconds(stream)
    if end < _LEAST_SHARE * seconds and end < seconds - _LEAST_MISSING_S:
        raise InputError(
            f"{path} was cut off: {float(end):.2f} of its {seconds:.2f} s can be decoded; convert"
            " what is left of it first"
        )


def _packets(path: Path, stream: int) -> tuple[int, int]:
    """Return how many packets a stream has, and how many of them an edit list doesn't hide."""
    with opened(path) as container:
        stored = shown = 0
        for packet in container.demux(container.streams[stream]):
            stored += packet.dts is not None
            shown += packet.dts is not None and not packet.is_discard
    return stored, shown


def _stated_seconds(stream: Any) -> float:
    """Return how long the file says the stream is; 0 where it doesn't."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    try:  # Matroska, as FFmpeg writes it
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        stated = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0
    return (
        stated - (stream.start_time or 0) * float(stream.time_base) if math.isfinite(stated) else 0
    )


def _rate(stream: Any, frames: int, end: Fraction) -> Fraction:
    rate = stream.average_rate or (frames / end if end else Fraction(25))
    return Fraction(rate).limit_denominator(100_000)


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return struct.unpack("<9i", bytes(data)[:36])
    return None
