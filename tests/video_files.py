"""Videos for the tests, written and read by PyAV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from gfpgan_core.images import ImageU8

TIME_BASE = Fraction(1, 90_000)
MARK_PX = 16


def moving(frames: int, size_wh: tuple[int, int] = (96, 64), *, start: int = 0) -> list[ImageU8]:
    """Frames of a slope of gray on which a white square goes to the right, `MARK_PX` wide."""
    width, height = size_wh
    slope = np.linspace(40, 180, height, dtype=np.uint8)[:, None, None]
    scene = np.broadcast_to(slope, (height, width, 3)) - np.array([0, 10, 20], np.uint8)
    images = []
    for number in range(start, start + frames):
        left = number % (width - MARK_PX)
        image = scene.copy()
        image[20 : 20 + MARK_PX, left : left + MARK_PX] = 255
        images.append(np.asarray(image, np.uint8))
    return images


def write_video(
    path: Path,
    images: Iterable[ImageU8],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    durations: Sequence[int] = (3000,),
    start: int = 0,
    tags: tuple[int, int, int, int] | None = None,
    matrix: Sequence[int] | None = None,
    sound: bool = False,
    sound_codec: str = "aac",
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video.

    Args:
        durations: of the frames, in turns, in units of `TIME_BASE`.
        tags: primaries, transfer, matrix, range.
        matrix: the display matrix.
    """
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream: Any = None
        voice: Any = None
        pts = start
        for number, image in enumerate(images):
            if stream is None:
                stream = container.add_stream(codec, rate=30, options=options or {})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.time_base = TIME_BASE
                context = stream.codec_context
                if tags:
                    context.color_primaries, context.color_trc = tags[:2]
                    context.colorspace, context.color_range = tags[2:]
                if matrix:
                    stream.set_display_matrix(matrix)
                if sound:
                    voice = container.add_stream(sound_codec, rate=44_100)
            frame = av.VideoFrame.from_ndarray(image, "rgb24" if image.shape[2] == 3 else "rgba")
            frame.pts, frame.time_base = pts, TIME_BASE
            frame.duration = durations[number % len(durations)]
            pts += frame.duration
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode(None))
        if voice is not None:
            _write_tone(container, voice, float((pts - start) * TIME_BASE))
    return path


def _write_tone(container: Any, stream: Any, seconds: float) -> None:
    for number in range(int(seconds * 44_100 / 1024)):
        wave = np.sin((np.arange(1024) + 1024 * number) * (2 * np.pi * 440 / 44_100)) * 0.3
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate, frame.pts = 44_100, 1024 * number
        frame.time_base = Fraction(1, 44_100)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def frames_of(path: Path) -> list[Any]:
    """The decoded frames of a video."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def pixels_of(path: Path) -> list[ImageU8]:
    """The decoded luma of a video's frames."""
    return [np.asarray(frame.to_ndarray(format="gray"), np.uint8) for frame in frames_of(path)]


def packets_of(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Time in seconds and content of the packets of the first stream of a kind."""
    with av.open(str(path)) as container:
        (stream, *_) = getattr(container.streams, kind)
        return [
            (round(float(packet.pts * packet.time_base), 6), bytes(packet))
            for packet in container.demux(stream)
            if packet.size
        ]
