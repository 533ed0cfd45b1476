"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE
from PIL import Image

from examples import restore_photo


def test_the_python_example_restores_a_photo_and_lists_its_faces(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.restore_photo", str(SAMPLE)]
    command += [str(tmp_path / "restored.png")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    with Image.open(SAMPLE) as before, Image.open(tmp_path / "restored.png") as after:
        assert after.size == (2 * before.width, 2 * before.height)
    first, last = result.stdout.splitlines()
    assert first.startswith("face at (") and last.startswith("1 faces, ")


def test_the_python_example_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore_photo.main([str(tmp_path / "absent.jpg"), str(tmp_path / "restored.png")]) == 1
    assert "absent.jpg can't be read" in capsys.readouterr().err
