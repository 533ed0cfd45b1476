"""The examples run as they stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from conftest import ROOT, SAMPLE
from PIL import Image


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.restore_photo", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_python_example_restores_a_photo_and_lists_its_faces(tmp_path: Path) -> None:
    result = _run(SAMPLE, tmp_path / "restored.png")
    assert result.returncode == 0, result.stderr
    with Image.open(SAMPLE) as before, Image.open(tmp_path / "restored.png") as after:
        assert after.size == (2 * before.width, 2 * before.height)
    first, last = result.stdout.splitlines()
    assert first.startswith("face at (") and last.startswith("1 faces, ")


def test_the_python_example_says_what_is_wrong(tmp_path: Path) -> None:
    result = _run(tmp_path / "absent.jpg", tmp_path / "restored.png")
    assert result.returncode == 1
    assert "absent.jpg can't be read" in result.stderr and "Traceback" not in result.stderr
