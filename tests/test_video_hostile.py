"""Videos that can't be restored, or look as if: a clear error, or the right result."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra `video` needs Python 3.11")

import av
from video_cli import restorer
from video_files import frames_of, moving, pixels_of, write_video

from gfpgan_core.__main__ import main
from gfpgan_core.cli import video as cli_video
from gfpgan_core.images import encode
from gfpgan_core.video.source import scan

_FAST_START = {"movflags": "faststart"}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """A tiny network."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(cli_video, "load_restorer", lambda _: restorer())


def _run(*arguments: object) -> int:
    return main(["video", *map(str, arguments)])


def _fails(
    source: Path, text: str, capsys: pytest.CaptureFixture[str], name: str = "out.mp4"
) -> None:
    """The run ends in this error and leaves nothing behind."""
    before = sorted(source.parent.iterdir())
    assert _run(source, source.parent / name) == 1
    captured = capsys.readouterr()
    assert text in captured.err and "Traceback" not in captured.err
    assert captured.err.count("\n") == 1 and not captured.out
    assert sorted(source.parent.iterdir()) == before


def _written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_what_is_no_video_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fails(tmp_path / "missing.mp4", "is no file", capsys)
    _fails(
        _written(tmp_path / "text.mp4", "To be, or not to be\n" * 99),
        "can't be read as a video",
        capsys,
    )
    _fails(_written(tmp_path / "empty.mp4", b""), "can't be read as a video", capsys)
    photo = encode(moving(1)[0], None, "png")
    _fails(_written(tmp_path / "photo.mp4", photo), "photos are for `gfpgan restore`", capsys)
    assert _run("https://example.com/a.mp4", tmp_path / "out.mp4") == 1
    assert "is no file" in capsys.readouterr().err


def test_a_playlist_reads_no_other_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "other.ts", moving(5))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n"
    _fails(_written(tmp_path / "list.m3u8", playlist), "can't be read as a video", capsys)
    listed = f"ffconcat version 1.0\nfile '{tmp_path / 'other.ts'}'\n"
    _fails(_written(tmp_path / "list.mp4", listed), "can't be read as a video", capsys)


def test_sound_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "sound.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("aac", rate=44_100)
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 44_100, 1024 * number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _fails(source, "has no moving picture in it", capsys)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))
    _fails(tmp_path / "sound.wav", "can't be read as a video", capsys)


def test_a_video_without_a_frame_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "YUV4MPEG2 W96 H64 F25:1 Ip A1:1 C420\n"
    _fails(_written(tmp_path / "in.y4m", header), "has no frame that can be decoded", capsys)


def test_a_video_that_was_trimmed_without_encoding_is_not_cut_off(tmp_path: Path) -> None:
    """Its first second is stored, as later frames need it, and an edit list hides it."""
    whole, trimmed = write_video(tmp_path / "in.mp4", moving(60)), tmp_path / "trimmed.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as written:
        stream = written.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                second = round(1 / packet.time_base)
                packet.pts, packet.dts = packet.pts - second, packet.dts - second
                packet.stream = stream
                written.mux(packet)
    assert scan(trimmed).frames == len(frames_of(trimmed)) < 60


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_was_cut_off_is_refused(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(60)]
    whole = write_video(tmp_path / f"in{suffix}", noise, container_options=_FAST_START).read_bytes()
    _fails(_written(tmp_path / f"half{suffix}", whole[: len(whole) // 2]), "was cut off", capsys)


def test_a_file_without_its_index_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a camera leaves whose battery runs out: MP4 has its index at the end."""
    whole = write_video(tmp_path / "in.mp4", moving(60)).read_bytes()
    _fails(
        _written(tmp_path / "cut.mp4", whole[: len(whole) // 3]), "can't be read as a video", capsys
    )


def test_odd_sides_become_even_by_repeating_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = moving(6, (97, 63))
    source = write_video(tmp_path / "in.mkv", images, codec="ffv1", pix_fmt="yuv444p")
    assert _run(source, tmp_path / "out.mp4", "--crf", 1) == 0
    assert "98x64 px in place of 97x63" in capsys.readouterr().err
    for before, after in zip(pixels_of(source), pixels_of(tmp_path / "out.mp4"), strict=True):
        assert after.shape == (64, 98)
        difference = np.abs(before.astype(int) - after[:63, :97])
        assert difference[:, 60:].max() <= 3  # beside the square
        assert abs(int(after[63, 90]) - int(after[62, 90])) <= 3


def test_ten_bits_become_eight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_video(tmp_path / "in.mkv", moving(6), codec="libx265", pix_fmt="yuv420p10le")
    assert _run(source, tmp_path / "out.mp4", "--crf", 1) == 0
    assert "its 10 bits a sample become 8" in capsys.readouterr().err
    for before, after in zip(pixels_of(source), pixels_of(tmp_path / "out.mp4"), strict=True):
        assert np.abs(before.astype(int) - after)[:, 60:].max() <= 3


def test_hdr_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tags = (9, 16, 9, 1)  # BT.2020, PQ
    source = write_video(
        tmp_path / "in.mp4", moving(3), codec="libx265", pix_fmt="yuv420p10le", tags=tags
    )
    _fails(source, "convert it to SDR (BT.709) first", capsys)


def test_transparency_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clear = [np.dstack([image, np.full(image.shape[:2], 90, np.uint8)]) for image in moving(3)]
    source = write_video(tmp_path / "in.mov", clear, codec="qtrle", pix_fmt="argb")
    _fails(source, "has transparent parts", capsys)
    opaque = [np.dstack([image, np.full(image.shape[:2], 255, np.uint8)]) for image in moving(3)]
    source = write_video(tmp_path / "opaque.mov", opaque, codec="qtrle", pix_fmt="argb")
    assert _run(source, tmp_path / "out.mp4") == 0
    assert len(frames_of(tmp_path / "out.mp4")) == 3


def test_a_gif_keeps_its_times(tmp_path: Path) -> None:
    """Hundredths of a second, each frame its own."""
    source = write_video(
        tmp_path / "in.gif", moving(6), codec="gif", pix_fmt="rgb8", durations=(9000, 18_000)
    )
    assert _run(source, tmp_path / "out.mp4") == 0
    times = [
        round(float(frame.pts * frame.time_base), 3) for frame in frames_of(tmp_path / "out.mp4")
    ]
    assert times == [0.0, 0.1, 0.3, 0.4, 0.6, 0.7]


def test_a_size_that_changes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        write_video(tmp_path / f"{width}.h264", moving(3, (width, 64))).read_bytes()
        for width in (96, 128)
    ]
    _fails(
        _written(tmp_path / "both.h264", b"".join(parts)),
        "size changes from 96x64 to 128x64",
        capsys,
    )


def test_a_result_that_is_too_large_for_its_codec_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_video(tmp_path / "in.mp4", moving(1, (2064, 64)))
    assert _run(source, tmp_path / "out.mp4", "--scale", 8) == 1
    said = "the result would have 16512x512 px; H.264 holds at most 16384 a side"
    assert said in capsys.readouterr().err
    assert _run(source, tmp_path / "out.mp4", "--scale", 0.25) == 0


def test_sound_that_the_container_cant_hold_is_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_video(tmp_path / "in.mkv", moving(3), sound=True, sound_codec="wavpack")
    _fails(source, "can't be copied into a mp4 file", capsys)
    assert _run(source, tmp_path / "out.mkv") == 0


def test_a_full_disk_leaves_no_part_of_a_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_video(tmp_path / "in.mp4", moving(3))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gfpgan_core.video.segments.join", full)
    assert _run(source, tmp_path / "out.mp4") == 1
    assert "No space left on device; the same command with --resume" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mp4.segments", "in.mp4"]
    monkeypatch.undo()
    monkeypatch.setattr(cli_video, "load_restorer", lambda _: restorer())
    assert _run(source, tmp_path / "out.mp4", "--resume") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]
