"""`gfpgan video`: what goes in and what comes out, killed runs, memory, unusable input."""

from __future__ import annotations

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra `video` needs Python 3.11")

import pages
from conftest import ROOT
from faults import captured
from video_cli import SquareDetector, command, environment, restorer
from video_files import frames_of, moving, packets_of, pixels_of, write_video

from gfpgan_core.__main__ import main
from gfpgan_core.cli import video as cli_video
from gfpgan_core.detect import Detection
from gfpgan_core.images import ImageU8
from gfpgan_core.video.restoring import SEGMENT_FRAMES, tracked_frames
from gfpgan_core.video.source import scan

# Turned by a quarter counterclockwise when shown: rows of 16.16, 16.16 and 2.30 fixed point.
QUARTER = (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, one_thread: None) -> None:
    """The command in this process, with a tiny network."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(cli_video, "load_restorer", lambda _: restorer())


def _run(*arguments: object) -> int:
    return main(["video", *map(str, arguments)])


def _times(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames_of(path)]


def test_times_sound_and_color_tags_are_kept(cli: None, tmp_path: Path) -> None:
    tags = (5, 6, 5, 1)  # BT.470BG, SMPTE 170M, BT.470BG, limited
    source = write_video(
        tmp_path / "in.mp4",
        moving(40),
        durations=(3000, 4501, 2999),
        tags=tags,
        sound=True,
        start=4500,
    )
    for name in ("out.mp4", "out.mov"):
        assert _run(source, tmp_path / name) == 0
        assert _times(tmp_path / name) == _times(source)
        assert packets_of(tmp_path / name, "audio") == packets_of(source, "audio")
        frame = frames_of(tmp_path / name)[0]
        kept = frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range
        assert kept == tags
    assert _times(source)[:3] == [
        Fraction(4500, 90_000),
        Fraction(7500, 90_000),
        Fraction(12_001, 90_000),
    ]


def test_matroska_keeps_times_to_a_millisecond_from_the_beginning_of_the_sound(
    cli: None, tmp_path: Path
) -> None:
    source = write_video(tmp_path / "in.mp4", moving(20), durations=(3003,), sound=True)
    assert _run(source, tmp_path / "out.mkv") == 0
    # AAC begins 1024 samples early, before zero, where Matroska has no time: all is moved.
    shift = 1024 / 44_100
    later = np.subtract(*(np.array(_times(path), float) for path in (tmp_path / "out.mkv", source)))
    assert abs(later - shift).max() < 0.001
    sounds, copied = packets_of(source, "audio"), packets_of(tmp_path / "out.mkv", "audio")
    assert [content for _, content in copied] == [content for _, content in sounds]
    times = np.subtract([time for time, _ in copied], [time for time, _ in sounds])
    assert abs(times - shift).max() < 0.001


def test_colors_come_back(cli: None, tmp_path: Path) -> None:
    """Each matrix and range is undone as it was done: flat colors stay within the codec's error."""
    colors = ((200, 40, 40), (40, 160, 60), (50, 70, 190), (128, 128, 128))
    images = [np.full((64, 96, 3), color, np.uint8) for color in colors]
    for tags in ((1, 1, 1, 1), (5, 6, 5, 2), (2, 2, 2, 0)):
        source = write_video(tmp_path / "in.mp4", images, tags=tags)
        assert _run(source, tmp_path / "out.mp4", "--crf", 1, "--overwrite") == 0
        for before, after in zip(frames_of(source), frames_of(tmp_path / "out.mp4"), strict=True):
            for plane in range(3):
                pair = [np.frombuffer(f.planes[plane], np.uint8)[0] for f in (before, after)]
                assert abs(int(pair[0]) - int(pair[1])) <= 2


def test_a_turned_video_is_restored_upright_and_stays_turned(
    cli: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upright = moving(10)
    coded = [np.ascontiguousarray(np.rot90(image, -1)) for image in upright]
    source = write_video(tmp_path / "in.mp4", coded, matrix=QUARTER, options={"crf": "1"})
    seen: list[tuple[int, ...]] = []

    class Watching(SquareDetector):
        def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
            seen.append(image.shape)
            difference = np.abs(image.astype(int) - upright[len(seen) - 1])
            assert difference.mean() < 4
            return super().find(image, min_score)

    def load(_: object) -> object:
        one = restorer()
        one.detector = Watching()
        return one

    monkeypatch.setattr(cli_video, "load_restorer", load)
    assert _run(source, tmp_path / "out.mp4") == 0
    assert set(seen) == {(64, 96, 3)} and len(seen) == 10
    (after,) = {(f.width, f.height, f.rotation) for f in frames_of(tmp_path / "out.mp4")}
    assert after == (64, 96, 90)
    kept = [
        bytes(data)
        for data in frames_of(tmp_path / "out.mp4")[0].side_data
        if data.type.name == "DISPLAYMATRIX"
    ]
    assert kept == [np.array(QUARTER, "<i4").tobytes()]


def test_only_faces_are_changed(cli: None, tmp_path: Path) -> None:
    """Far from the square only the codec's error is left; on it the random network shows."""
    source = write_video(tmp_path / "in.mp4", moving(12, (160, 96)), options={"crf": "1"})
    assert _run(source, tmp_path / "out.mp4", "--crf", 1) == 0
    before, after = (np.array(pixels_of(path), int) for path in (source, tmp_path / "out.mp4"))
    change = np.abs(after - before)
    assert change[:, :, 100:].max() <= 3
    assert change[:, 20:36, :40].max() > 12


@pytest.mark.parametrize("tag", ["location", "com.apple.quicktime.location.ISO6709"])
def test_the_place_is_removed_unless_asked_for(cli: None, tmp_path: Path, tag: str) -> None:
    import av

    about = {"title": "a day", tag: "+48.1000+011.5000/"}
    flags = {"movflags": "use_metadata_tags"} if "apple" in tag else {}
    source = write_video(tmp_path / "in.mp4", moving(5), metadata=about, container_options=flags)
    with av.open(str(source)) as container:
        assert tag in container.metadata
    for extra, places in (((), set()), (("--keep-gps",), {"+48.1000+011.5000/"})):
        assert _run(source, tmp_path / "out.mp4", "--overwrite", *extra) == 0
        with av.open(str(tmp_path / "out.mp4")) as container:
            kept = container.metadata
        assert kept["title"] == "a day"
        assert {value for key, value in kept.items() if "location" in key} == places


def test_a_killed_run_goes_on_and_gives_the_same_frames(
    cli: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_video(tmp_path / "in.mp4", moving(SEGMENT_FRAMES + 40), sound=True)
    whole, resumed = tmp_path / "whole.mp4", tmp_path / "resumed.mp4"

    def run(killed_at: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        return captured(command(killed_at, *arguments), environment())

    assert _run(source, whole) == 0
    # The first segment is whole once 8 more frames were looked at.
    assert run(SEGMENT_FRAMES + 30, source, resumed).returncode == -9
    assert not resumed.exists()
    kept = tmp_path / ".resumed.mp4.segments"
    assert sorted(path.name for path in kept.glob("0*")) == ["000000.json", "000000.mkv"]

    assert _run(source, resumed) == 1
    assert "--resume goes on with it, or --overwrite" in capsys.readouterr().err
    assert _run(source, resumed, "--resume", "--blend", "0.5") == 1
    assert "of other settings (blend)" in capsys.readouterr().err
    # 40 frames are left to look at: the run would be killed at the 42nd.
    last = run(42, source, resumed, "--resume")
    assert last.returncode == 0, last.stderr
    assert resumed.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.mp4",
        "resumed.mp4",
        "whole.mp4",
    ]
    assert _run(source, resumed, "--resume") == 0
    assert "is there already" in capsys.readouterr().out


def test_memory_stays_level_whatever_the_length(tmp_path: Path) -> None:
    """320x240: 300 frames of RGB would take 66 MiB."""
    peaks = []
    for frames in (10, 300):
        source = write_video(tmp_path / f"{frames}.mp4", moving(frames, (320, 240)))
        output = tmp_path / f"{frames}_out.mp4"
        result = captured(command(0, source, output), environment())
        assert result.returncode == 0, result.stderr
        peaks.append(float(result.stdout.split()[-1]))
        assert len(frames_of(output)) == frames
    print(f"peak memory in MiB, at 10 and at 300 frames: {peaks}")
    assert peaks[1] - peaks[0] < 40


def test_the_crop_of_a_jittering_detection_is_steady(tmp_path: Path) -> None:
    """The square moves by 1 px a frame; the detector is off by -1, 0 or 1 px at random."""
    video = scan(write_video(tmp_path / "in.mp4", moving(60)))
    detected, followed = [], []
    for one in tracked_frames(video, SquareDetector(), 0.5, iter(())):
        detected.append(one.detected[0].landmarks[0, 0])
        followed.append(one.followed[1].landmarks[0, 0])
    assert np.diff(detected).std() > 0.7
    assert np.diff(followed).std() < 0.25
    assert np.abs(np.diff(followed) - 1).mean() < 0.2


@pytest.mark.parametrize("number", range(3))
def test_the_commands_of_the_documentation_work(
    number: int, cli: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = pages.commands("video.md")
    commands = [line for line in lines if line.startswith("python -m gfpgan_core video ")]
    assert len(commands) == 3
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", moving(5), sound=True)
    arguments = commands[number].split()[4:]
    assert _run(*arguments) == 0
    assert len(frames_of(tmp_path / arguments[1])) == 5


def test_the_table_of_options_is_the_parsers(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "video.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`--[^|]*) \|", text, re.MULTILINE)
    with pytest.raises(SystemExit):
        main(["video", "--help"])
    offered = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {option for row in rows for option in re.findall(r"--[a-z-]+", row)} == offered


def test_an_interrupted_run_says_how_to_go_on(
    cli: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_video, "load_restorer", load)
    source = write_video(tmp_path / "in.mp4", moving(3))
    assert _run(source, tmp_path / "out.mp4") == 130
    assert capsys.readouterr().err == "interrupted; the same command with --resume goes on\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_without_its_package_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert _run(tmp_path / "in.mp4", tmp_path / "out.mp4") == 1
    assert "pip install 'av>=18,<19'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, text",
    [
        (("--faces", "1,2"), "--faces all, largest or center"),
        (("--blend", "auto"), "would change from frame to frame"),
        (("--crf", "60"), "allowed: 0 (lossless) to 51"),
        (("--scale", "9"), "scale is 9.0; allowed: 0.25 to 8"),
    ],
)
def test_options_that_make_no_sense_for_a_video_are_refused(
    arguments: tuple[str, ...], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(tmp_path / "in.mp4", tmp_path / "out.mp4", *arguments) == 1
    assert text in capsys.readouterr().err


def test_an_output_that_is_there_stays(
    cli: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_video(tmp_path / "in.mp4", moving(3))
    taken = tmp_path / "out.mp4"
    taken.write_text("a diary")
    assert _run(source, taken) == 1
    assert "out.mp4 exists: --overwrite replaces it" in capsys.readouterr().err
    assert _run(source, source, "--overwrite") == 1
    assert "is the video itself" in capsys.readouterr().err
    assert _run(source, tmp_path) == 1
    assert "is a folder" in capsys.readouterr().err
    assert _run(source, tmp_path / "out.webm") == 1
    assert re.search(r"allowed: names in \.mp4, \.mov, \.mkv", capsys.readouterr().err)
    assert taken.read_text() == "a diary"
    assert _run(source, taken, "--overwrite") == 0
    assert len(frames_of(taken)) == 3
