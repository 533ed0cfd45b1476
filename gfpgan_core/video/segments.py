"""Write a stretch of a video as a file of its own, and join such files to the whole.

A segment's file holds H.264 whose packets have no time: the times and faces of its frames are
beside it as JSON. There are no B frames, so that packets come in the order of the
times, and segments join without a shift.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.video.colors import Colors, to_frame
from gfpgan_core.video.packages import require_av
from gfpgan_core.video.source import Video, opened

CONTAINERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}

_MAX_SIDE_PX = 16_384  # that x264 takes

# Where phones and cameras write the place, in the names of FFmpeg's readers.
_PLACES = ("location", "gps", "xyz")
_APPLES_PLACE = "com.apple.quicktime.location.ISO6709"
_OF_THE_CONTAINER = ("major_brand", "minor_version", "compatible_brands", "encoder", "DURATION")


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded."""

    colors: Colors
    rate: Fraction
    pixel_aspect: Fraction | None
    crf: float
    """x264's quality: 0 (lossless) to 51."""


def even(image: ImageU8) -> ImageU8:
    """Return (H, W, 3) with even sides, as H.264 needs them: the last row or column repeated."""
    height, width = image.shape[:2]
    if not (height % 2 or width % 2):
        return image
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def write_segment(path: Path, images: Iterable[ImageU8], encoding: Encoding) -> None:
    """Encode images of one size, (H, W, 3) RGB, as a segment's file.

    Raises:
        OSError: it can't be written. Errors of the images pass through.
    """
    av = require_av()
    with av.open(str(path), "w", format="matroska") as container:
        stream: Any = None
        for number, image in enumerate(images):
            frame = to_frame(even(image), encoding.colors)
            if stream is None:
                stream = _video_stream(container, frame, encoding)
            frame.pts, frame.time_base = number, 1 / encoding.rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _video_stream(container: Any, frame: Any, encoding: Encoding) -> Any:
    options = {"crf": f"{encoding.crf:g}", "preset": "medium", "bf": "0"}
    stream = container.add_stream("libx264", rate=encoding.rate, options=options)
    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / encoding.rate
    context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
    context.colorspace, context.color_range = frame.colorspace, frame.color_range
    if encoding.pixel_aspect:
        context.sample_aspect_ratio = encoding.pixel_aspect
    return stream


@dataclass(frozen=True)
class TimedSegment:
    """A segment's file, with the times of its frames in the video's time base."""

    path: Path
    pts: list[int]
    durations: list[int]


def join(
    video: Video, segments: Iterable[TimedSegment], output: Path, container: str, *, keep_gps: bool
) -> list[str]:
    """Write the segments as one stream, beside the sound and subtitles of the video, unchanged.

    Returns:
        What the container can't hold, and was left out.

    Raises:
        InputError: the container can't hold the sound.
        OSError: it can't be written.
    """
    av = require_av()
    segments = list(segments)
    with (
        av.open(str(segments[0].path)) as pictures,
        opened(video.path) as source,
        av.open(str(output), "w", format=container) as written,
    ):
        picture = written.add_stream_from_template(pictures.streams.video[0], opaque=True)
        picture.time_base = video.time_base
        if video.display_matrix:
            picture.set_display_matrix(video.display_matrix)
        copies, left_out = _copied_streams(source, written, video)
        written.metadata.update(_kept(source.metadata, keep_gps=keep_gps))
        if chapters := source.chapters():
            written.set_chapters(chapters)
        written.start_encoding()
        parts = _pictures(video, picture, segments), _sounds(source, copies)
        for packet in heapq.merge(*parts, key=_time):
            written.mux_one(packet)
    return left_out


def check_output(video: Video, size_wh: tuple[int, int], container: str) -> list[str]:
    """Check before any work that pictures of a size and the video's sound can be written.

    Returns:
        What will be left out.

    Raises:
        InputError: H.264 can't hold the size, or the container the sound.
    """
    if max(size_wh) > _MAX_SIDE_PX:
        raise InputError(
            f"the result would have {size_wh[0]}x{size_wh[1]} px; H.264 holds at most"
            f" {_MAX_SIDE_PX} a side: choose a smaller --scale"
        )
    av = require_av()
    with opened(video.path) as source, av.open(io.BytesIO(), "w", format=container) as trial:
        stream = trial.add_stream("libx264", rate=25)
        stream.width, stream.height = 16, 16
        _, left_out = _copied_streams(source, trial, video)
        try:
            trial.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            raise _unholdable("the sound", container) from error
    return left_out


def _unholdable(what: str, container: str) -> InputError:
    suffixes = ", ".join(suffix for suffix, name in CONTAINERS.items() if name != container)
    return InputError(
        f"{what} can't be copied into a {container} file: name an output that ends in {suffixes},"
        " or convert the sound first"
    )


def _copied_streams(source: Any, written: Any, video: Video) -> tuple[dict[int, Any], list[str]]:
    """Add the streams that are copied; return them by the source's index, and what is left out.

    Raises:
        InputError: the container can't hold the sound.
    """
    copies: dict[int, Any] = {}
    left_out = []
    for stream in source.streams:
        if stream.index == video.stream:
            continue
        name = f"{stream.type} stream {stream.index}"
        if stream.type not in ("audio", "subtitle"):
            left_out.append(name)
            continue
        try:
            copy = written.add_stream_from_template(stream)
        except ValueError as error:
            if stream.type == "audio":
                codec = stream.codec_context.name if stream.codec_context else "of unknown kind"
                raise _unholdable(f"the sound ({codec})", written.format.name) from error
            left_out.append(name)
            continue
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        copies[stream.index] = copy
    return copies, left_out


def _kept(metadata: dict[str, str], *, keep_gps: bool) -> dict[str, str]:
    """Return a file's metadata without what describes its container, and without the place."""
    if _APPLES_PLACE in metadata:  # which FFmpeg reads, and writes under its own name only
        metadata = {"location": metadata[_APPLES_PLACE]} | metadata
    return {
        key: value
        for key, value in metadata.items()
        if key not in _OF_THE_CONTAINER
        and (keep_gps or not any(place in key.lower() for place in _PLACES))
    }


def _pictures(video: Video, stream: Any, segments: Iterable[TimedSegment]) -> Iterator[Any]:
    """Yield the segments' packets with their times."""
    av = require_av()
    for segment in segments:
        with av.open(str(segment.path)) as container:
            packets = (one for one in container.demux(video=0) if one.size)
            times = zip(segment.pts, segment.durations, strict=True)
            for packet, (pts, duration) in zip(packets, times, strict=True):
                packet.stream, packet.time_base = stream, video.time_base
                packet.pts = packet.dts = pts
                packet.duration = duration
                yield packet


def _sounds(source: Any, copies: dict[int, Any]) -> Iterator[Any]:
    """Yield the packets of the streams that are copied."""
    if not copies:
        return
    for packet in source.demux([source.streams[index] for index in copies]):
        if packet.dts is None:  # sound is stored in the order of its times
            packet.dts = packet.pts
        if packet.size and packet.dts is not None:
            packet.stream = copies[packet.stream_index]
            yield packet


def _time(packet: Any) -> Fraction:
    return Fraction(packet.dts * packet.time_base)
