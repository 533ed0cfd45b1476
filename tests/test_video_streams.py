"""What lies beside the pictures in a video's file: several sounds, subtitles, chapters, tags."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("av", reason="the extra `video` needs Python 3.11")

import av
from video_cli import restorer
from video_files import frames_of, moving, write_video

from gfpgan_core.__main__ import main
from gfpgan_core.cli import video as cli_video
from gfpgan_core.errors import InputError
from gfpgan_core.video.colors import Colors
from gfpgan_core.video.segment_folder import SegmentFrames, open_segment_folder

_QUARTER = (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
_MILLISECOND = Fraction(1, 1000)
_CHAPTER = {
    "id": 1,
    "start": 0,
    "end": 100,
    "time_base": _MILLISECOND,
    "metadata": {"title": "one"},
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """A tiny network."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(cli_video, "load_restorer", lambda _: restorer())


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Turned by a quarter, with German and French sound, English subtitles and a chapter."""
    plain = write_video(tmp_path / "plain.mp4", moving(6), sound=True)
    path = tmp_path / "film.mkv"
    with av.open(str(plain)) as source, av.open(str(path), "w") as written:
        picture = written.add_stream_from_template(source.streams.video[0], opaque=True)
        picture.set_display_matrix(_QUARTER)
        sounds = [written.add_stream_from_template(source.streams.audio[0]) for _ in range(2)]
        for sound, language in zip(sounds, ("ger", "fre"), strict=True):
            sound.metadata["language"] = language
        text: Any = written.add_mux_stream("subrip")
        text.metadata["language"], text.time_base = "eng", _MILLISECOND
        written.set_chapters([_CHAPTER])
        written.start_encoding()
        for packet in source.demux():
            for stream in sounds if packet.stream.type == "audio" else [picture]:
                if packet.size:
                    written.mux_one(_packet(bytes(packet), packet, stream))
        line = av.Packet(b"Hello")
        line.pts = line.dts = 20
        line.duration, line.time_base, line.stream = 50, _MILLISECOND, text
        written.mux_one(line)
    return path


def _packet(content: bytes, like: Any, stream: Any) -> Any:
    copy = av.Packet(content)
    copy.pts, copy.dts, copy.duration, copy.time_base = (
        like.pts,
        like.dts,
        like.duration,
        like.time_base,
    )
    copy.is_keyframe, copy.stream = like.is_keyframe, stream
    return copy


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_all_that_lies_beside_the_pictures_is_kept_where_it_can_be(
    suffix: str, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / f"out{suffix}"
    assert main(["video", str(film), str(output)]) == 0
    said = capsys.readouterr().err
    with av.open(str(output)) as container, av.open(str(film)) as source:
        assert len(container.streams.audio) == 2
        if suffix != ".mov":  # QuickTime knows some languages only
            assert container.streams.audio[1].metadata["language"] == "fre"
        (chapter,) = container.chapters()
        assert chapter["metadata"] == {"title": "one"}
        assert chapter["end"] * chapter["time_base"] == Fraction(1, 10)
        heard = [[bytes(p) for p in file.demux(audio=1) if p.size] for file in (source, container)]
        assert heard[0] == heard[1] != []
    assert [frame.rotation for frame in frames_of(output)] == [90] * 6
    if suffix == ".mkv":
        with av.open(str(output)) as container:
            assert [bytes(one) for one in container.demux(subtitles=0) if one.size] == [b"Hello"]
        assert not said
    else:
        assert "left out, as the output can't hold it: subtitle stream 3" in said


def test_the_shape_of_pixels_is_kept_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height = 96, 64
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        for image in moving(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    assert main(["video", str(path), str(tmp_path / "out.mp4")]) == 0
    assert "its pixels are not square (16/15)" in capsys.readouterr().err
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


def test_the_matrix_is_named_only_where_it_would_be_guessed_differently() -> None:
    """Players take fewer than 720 lines for BT.601 (6), others for BT.709 (1)."""
    untagged = Colors()
    assert untagged.written(576, 576) == untagged
    assert untagged.written(576, 1152) == Colors(matrix=6)
    assert untagged.written(1080, 540) == Colors(matrix=1)
    tagged = Colors(5, 6, 5, 2)
    assert tagged.written(576, 1152) == tagged
    assert Colors(1, 13, 0, 2).written(1080, 1080) == Colors(1, 13, 1, 1)  # RGB becomes YCbCr


def test_two_runs_dont_work_on_one_output(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with open_segment_folder(output, {"crf": 18}, resume=False, overwrite=False) as work:
        with work.segment(0, SegmentFrames([0], [1], [[]])) as path:
            path.write_bytes(b"whole")
        with (
            pytest.raises(InputError, match="another run is at work"),
            open_segment_folder(output, {"crf": 18}, resume=True, overwrite=False),
        ):
            pass
    with open_segment_folder(output, {"crf": 18}, resume=True, overwrite=False) as work:
        assert work.done() == 1 and work.frames_of(0) == SegmentFrames([0], [1], [[]])
    with open_segment_folder(output, {"crf": 20}, resume=False, overwrite=True) as work:
        assert work.done() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_segment_that_fails_is_not_kept(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_segment_folder(tmp_path / "out.mp4", {}, resume=False, overwrite=False) as work,
        work.segment(0, SegmentFrames([], [], [])) as path,
    ):
        path.write_bytes(b"a part")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
