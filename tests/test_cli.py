from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE

from gfpgan_core import images
from gfpgan_core.__main__ import main
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import PARSERS
from gfpgan_core.weights.releases import DETECTORS, RELEASES


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
    tmp_path: Path, portrait: ImageU8, two_faces: ImageU8, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    images.write(folder / "a.png", images.encode(portrait, None, "png"))
    images.write(folder / "b.jpg", images.encode(two_faces, None, "jpg"))
    (folder / "c.jpg").write_text("no photo")
    (folder / "notes.txt").write_text("ignored")
    output = tmp_path / "out"
    status = _restore(folder, "--output", output, "--scale", 1, "--save-faces")
    printed = capsys.readouterr()
    assert status == 1
    assert sorted(p.name for p in output.iterdir()) == ["a.png", "b.jpg", "faces"]
    assert "c.jpg: FAILED: c.jpg is no image" in printed.err and "1 of 3 failed" in printed.err
    assert "b.jpg: 2 faces" in printed.out
    pair = images.read_rgb(output / "faces" / "b_1_before_after.png")
    assert pair.shape == (512, 1024, 3)
    assert images.read_rgb(output / "faces" / "a_0.png").shape == (512, 512, 3)


def test_no_input_is_overwritten_and_no_result_lost(tmp_path: Path, portrait: ImageU8) -> None:
    photo, other = tmp_path / "a.png", tmp_path / "more" / "a.png"
    for path in (photo, other):
        images.write(path, images.encode(portrait, None, "png"))
    before = photo.read_bytes()
    assert _restore(photo, other, "--output", tmp_path, "--scale", 0.5) == 0
    assert photo.read_bytes() == before
    assert images.read_rgb(tmp_path / "a_2.png").shape == (256, 256, 3)
    assert (tmp_path / "a_3.png").is_file()


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
    ],
)
def test_misuse_is_explained(
    arguments: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert _restore(SAMPLE, "--output", tmp_path, *arguments) == 1
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_absent_weights_name_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    assert _restore(SAMPLE, "--version", "v1.4") == 1
    printed = capsys.readouterr().err
    for part in ("GFPGANv1.4.pth", "349 MB", "https://github.com/TencentARC", "--version compact"):
        assert part in printed


def test_missing_files_and_empty_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _restore(tmp_path / "none.jpg", "--output", tmp_path / "out") == 1
    assert "none.jpg can't be read: No such file" in capsys.readouterr().err
    assert _restore(tmp_path) == 1
    assert "holds no image" in capsys.readouterr().err


def test_only_one_face_is_restored_on_request(
    tmp_path: Path, two_faces: ImageU8, capsys: pytest.CaptureFixture[str]
) -> None:
    images.write(tmp_path / "two.png", images.encode(two_faces, None, "png"))
    for option in ("--only-center-face", "--only-largest-face"):
        assert _restore(tmp_path / "two.png", option, "--output", tmp_path / "out") == 0
        assert "two.png: 1 face," in capsys.readouterr().out


def test_the_choices_are_those_of_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    printed = capsys.readouterr().out.replace("\n", "").replace(" ", "")
    assert "{" + ",".join(RELEASES) + "}" in printed
    assert "{" + ",".join(["auto", "centerface", *DETECTORS]) + "}" in printed
    assert "{" + ",".join(["auto", "template", *PARSERS]) + "}" in printed
