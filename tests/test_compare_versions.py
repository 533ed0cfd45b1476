"""Versions side by side: what is drawn, and what is said of those without weights."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pages
import pytest
from conftest import PORTRAIT
from PIL import Image

from gfpgan_core import images
from scripts.compare_versions import main, sheet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo, and no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    with Image.open(PORTRAIT) as portrait:
        portrait.resize((128, 128)).save("photo.jpg")


def test_the_documented_comparison_shows_what_is_here_and_names_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw, restore = pages.commands("versions.md")
    assert pages.run(draw) == 0
    said = capsys.readouterr()
    assert "compact: " in said.out
    for version in ("v1", "v1.2", "v1.3", "v1.4", "RestoreFormer"):
        assert f"{version}: left out: " in said.err
    assert images.read_rgb(Path("comparison.png")).shape == (536, 1024, 3)  # two, with labels
    assert pages.run(restore) == 1  # for want of its weights alone
    assert "GFPGAN_OFFLINE forbids the download" in capsys.readouterr().err


def test_weights_of_ones_own_are_beside_the_versions(tiny_weights: Path) -> None:
    command = ["photo.jpg", "c.png", "--version", "compact", "--weights", str(tiny_weights)]
    assert main(command) == 0
    tiles = np.split(images.read_rgb(Path("c.png"))[24:], 3, axis=1)
    assert all(np.abs(a.astype(int) - b).max() > 20 for a, b in itertools.pairwise(tiles))


def test_what_cant_be_compared_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["photo.jpg", "c.png", "--version", "v1.4"]) == 1
    assert "no version's weights are here" in capsys.readouterr().err
    Image.new("RGB", (64, 64)).save("black.png")
    assert main(["black.png", "c.png", "--version", "compact"]) == 1
    assert "shows no face" in capsys.readouterr().err
    assert main(["photo.jpg", "c.txt"]) == 1
    assert "c.txt" in capsys.readouterr().err and not Path("c.png").exists()


def test_the_fifth_picture_begins_a_second_row() -> None:
    tiles = {str(n): np.full((8 * (n + 1), 8 * (n + 1), 3), 40 * n, np.uint8) for n in range(5)}
    drawn = sheet(tiles)
    assert drawn.shape == (2 * (40 + 24), 4 * 40, 3)
    for n in range(5):
        x, y = 40 * (n % 4), 64 * (n // 4) + 24
        assert (drawn[y : y + 40, x : x + 40] == 40 * n).all()
