from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import ROOT, SAMPLE

from gfpgan_core import choose, images, pipeline
from gfpgan_core.__main__ import main
from gfpgan_core.backends import BACKENDS
from gfpgan_core.config import Backend, DetectorName, MaskKind
from gfpgan_core.detect import NAMED_DETECTORS
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import MASKERS, PARSERS
from gfpgan_core.weights.releases import DETECTORS, PARSING, RELEASES


def _restore(*arguments: object) -> int:
    own = "--version" in arguments or "--weights" in arguments
    version = [] if own else ["--version", "compact"]
    return main(["restore", *map(str, arguments), *version, "--device", "cpu"])


def test_one_command_restores_the_sample(tmp_path: Path) -> None:
    """As a user types it, in a process of its own."""
    command = [sys.executable, "-m", "gfpgan_core", "restore", str(SAMPLE)]
    command += ["--version", "compact", "--output", str(tmp_path), "--device", "cpu"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "1 face," in result.stdout and "sample_degraded.jpg" in result.stdout
    assert images.read_rgb(tmp_path / "sample_degraded.jpg").shape == (1024, 1024, 3)


def test_a_folder_of_photos_and_one_that_fails(
    tmp_path: Path,
    portrait: ImageU8,
    two_faces: ImageU8,
    tiny_weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "photos"
    images.write(folder / "a.png", images.encode(portrait, None, "png"))
    images.write(folder / "b.jpg", images.encode(two_faces, None, "jpg"))
    (folder / "c.jpg").write_text("no photo")
    (folder / "notes.txt").write_text("ignored")
    output = tmp_path / "out"
    arguments = ("--weights", tiny_weights, "--scale", 1, "--save-faces")
    status = _restore(folder, "--output", output, *arguments)
    printed = capsys.readouterr()
    assert status == 1
    assert sorted(p.name for p in output.glob("[!.]*")) == ["a.png", "b.jpg", "faces"]
    assert "c.jpg: FAILED: c.jpg is no image" in printed.err
    closing = printed.out.splitlines()[-1]
    assert closing == "2 restored, 1 failed, 1 passed over: 1 not an image"
    assert "b.jpg: 2 faces" in printed.out
    pair = images.read_rgb(output / "faces" / "b_2_before_after.png")
    assert pair.shape == (64, 128, 3)
    assert images.read_rgb(output / "faces" / "a_1.png").shape == (64, 64, 3)


def test_format_and_own_weights(tmp_path: Path, tiny_weights: Path) -> None:
    arguments = ("--weights", tiny_weights, "--format", "webp", "--output", tmp_path)
    assert _restore(SAMPLE, *arguments) == 0
    assert images.read(tmp_path / "sample_degraded.webp").format == "webp"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--scale", "99"), "scale is 99.0; allowed: 0.25 to 8"),
        (("--blend", "-1"), "blend is -1.0"),
        (("--weights", "missing.pth"), "missing.pth can't be read as weights"),
        (("--background", "realesrgan-x4v3"), "realesr-general-x4v3.pth"),
    ],
)
def test_misuse_is_explained(
    arguments: tuple[str, ...],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    assert _restore(SAMPLE, "--output", tmp_path / "out", *arguments) == 1
    printed = capsys.readouterr()
    assert text in printed.err and len(printed.err.splitlines()) == 1 and not printed.out
    assert not (tmp_path / "out").exists()


def test_absent_weights_name_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    assert _restore(SAMPLE, "--version", "v1.4") == 1
    printed = capsys.readouterr().err
    for part in ("GFPGANv1.4.pth", "349 MB", "https://github.com/TencentARC", "--version compact"):
        assert part in printed


def test_missing_files_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _restore(tmp_path / "none.jpg", "--output", tmp_path / "out") == 1
    assert "none.jpg: FAILED: can't be read: No such file" in capsys.readouterr().err


def test_only_one_face_is_restored_on_request(
    tmp_path: Path, two_faces: ImageU8, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write(tmp_path / "two.png", images.encode(two_faces, None, "png"))
    arguments = ("--weights", tiny_weights, "--output", tmp_path / "out")
    for option in ("--only-center-face", "--only-largest-face"):
        assert _restore(tmp_path / "two.png", option, *arguments) == 0
        assert "two.png: 1 face," in capsys.readouterr().out


def test_the_choices_are_those_of_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    printed = capsys.readouterr().out.replace("\n", "").replace(" ", "")
    assert "{" + ",".join(RELEASES) + "}" in printed
    for names, table in (
        (get_args(DetectorName), NAMED_DETECTORS),
        (get_args(MaskKind), MASKERS),
        (get_args(Backend), BACKENDS),
    ):
        assert "{" + ",".join(names) + "}" in printed
        assert names == ("auto", *table)
    assert set(DETECTORS) < set(NAMED_DETECTORS) and set(PARSING) == set(PARSERS) < set(MASKERS)


def test_fetch_says_what_it_lacks_and_where_it_comes_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    assert main(["fetch", "v1.3", "parsing"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert "GFPGANv1.3.pth (349 MB)" in first and "parsing_parsenet.pth (85 MB)" in second
    with pytest.raises(SystemExit) as ended:
        main(["fetch", "v9"])
    assert ended.value.code == 2
    assert "unknown name 'v9'; allowed: all, v1, v1.2" in capsys.readouterr().err


def test_a_defect_in_one_photo_does_not_take_the_others_down(
    tmp_path: Path,
    portrait: ImageU8,
    tiny_weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in "abc":
        images.write(tmp_path / "in" / f"{name}.png", images.encode(portrait, None, "png"))
    calls = iter(range(99))

    def broken_once(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise ZeroDivisionError("division by zero")
        return choose.choose(*arguments)

    monkeypatch.setattr(pipeline, "choose", broken_once)
    assert _restore(tmp_path / "in", "--weights", tiny_weights, "--output", tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert "b.png: FAILED: ZeroDivisionError: division by zero (a defect" in printed.err
    assert printed.out.splitlines()[-1] == "2 restored, 1 failed, 0 passed over"
