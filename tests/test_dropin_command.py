"""`python -m gfpgan_core.upstream`: upstream's options, and its files in its folders."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import PORTRAIT, TINY, random_network
from numpy.typing import NDArray
from torch import nn

from gfpgan_core import background, geometry, images
from gfpgan_core.images import ImageU8
from gfpgan_core.upstream import GFPGANer
from gfpgan_core.upstream.command import main

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path, two_faces: ImageU8, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of upstream's: photos, and a model where its program looks for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gfpgan" / "weights").mkdir(parents=True)
    network = random_network(3, dataclasses.replace(TINY, channel_multiplier=2))
    torch.save({"params_ema": network.state_dict()}, "gfpgan/weights/GFPGANv1.3.pth")
    inputs = tmp_path / "inputs" / "whole_imgs"
    inputs.mkdir(parents=True)
    (inputs / "one.jpg").write_bytes(PORTRAIT.read_bytes())
    two = np.asarray(geometry.resize(two_faces, (450, 256)), np.uint8)
    cv2.imwrite(str(inputs / "two.bmp"), two[..., ::-1])
    return tmp_path


def _read(path: str) -> NDArray[Any]:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def _files() -> list[str]:
    return sorted(str(p.relative_to("results")) for p in Path("results").rglob("*") if p.is_file())


def test_the_defaults_write_upstreams_files(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    faces = ["one_00.png", "two_00.png", "two_01.png"]
    assert _files() == [
        *(f"cmp/{name}" for name in faces),
        *(f"cropped_faces/{name}" for name in faces),
        *(f"restored_faces/{name}" for name in faces),
        *("restored_imgs/one.jpg", "restored_imgs/two.bmp"),
    ]
    enhancer = GFPGANer("gfpgan/weights/GFPGANv1.3.pth", device="cpu")
    crops, restored, image = enhancer.enhance(_read("inputs/whole_imgs/two.bmp"))
    assert image is not None and np.array_equal(_read("results/restored_imgs/two.bmp"), image)
    assert image.shape == (512, 900, 3)
    assert np.array_equal(_read("results/cropped_faces/two_01.png"), crops[1])
    assert np.array_equal(_read("results/restored_faces/two_01.png"), restored[1])
    assert np.array_equal(_read("results/cmp/two_01.png"), np.hstack([crops[1], restored[1]]))
    said = capsys.readouterr()
    assert "two.bmp: 2 faces" in said.out and "2 restored, 0 failed" in said.out
    assert "on a CPU it is none" in said.err


def test_every_option_of_upstreams_is_taken(folder: Path) -> None:
    options = "-i inputs/whole_imgs/two.bmp -o results -v 1.3 -s 1 -w 0.5 --bg_upsampler none"
    more = "--bg_tile 200 --suffix new --only_center_face --ext png"
    assert main([*options.split(), *more.split()]) == 0
    assert _files() == [
        "cmp/two_00.png",
        "cropped_faces/two_00.png",
        "restored_faces/two_00_new.png",
        "restored_imgs/two_new.png",
    ]
    assert _read("results/restored_imgs/two_new.png").shape == (256, 450, 3)


def test_aligned_faces_give_no_photo(folder: Path) -> None:
    assert main(["-i", "inputs/whole_imgs/one.jpg", "--aligned"]) == 0
    assert _files() == [f"{name}/one_00.png" for name in ("cmp", "cropped_faces", "restored_faces")]


def test_the_background_is_enlarged_in_tiles_of_the_size_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widest: list[int] = []

    def run(tile: torch.Tensor) -> torch.Tensor:
        widest.append(tile.shape[-1])
        enlarged: torch.Tensor = nn.functional.interpolate(tile, scale_factor=2)
        return enlarged

    shared = background.BackgroundUpsampler(run, 2, context_px=0)
    monkeypatch.setattr("gfpgan_core.upstream.background.load_background", lambda *_: shared)
    command = ["-i", "inputs/whole_imgs/one.jpg", "--bg_upsampler", "realesrgan"]
    assert main([*command, "--bg_tile", "128"]) == 0
    assert max(widest) == 128
    assert main([*command, "--bg_tile", "0"]) == 0
    assert max(widest) == 512 and shared.tile_px == 400
    photo = images.read_rgb(PORTRAIT)
    corner = _read("results/restored_imgs/one.jpg")[-64:, -64:, ::-1].astype(float)
    expected = photo[-32:, -32:].repeat(2, axis=0).repeat(2, axis=1)
    assert np.abs(corner - expected).mean() < 2  # JPEG


def test_what_cant_be_read_fails_alone_and_no_photo_is_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("inputs/whole_imgs/notes.txt").write_text("Dear sir")
    assert main(["-s", "0.5"]) == 1
    said = capsys.readouterr()
    assert "notes.txt: FAILED" in said.err and "2 restored, 1 failed" in said.out
    before = Path("results/restored_imgs/one.jpg").read_bytes()
    assert main(["-i", "results/restored_imgs"]) == 1
    assert "is one of the photos: name another folder with -o" in capsys.readouterr().err
    assert Path("results/restored_imgs/one.jpg").read_bytes() == before


def test_two_photos_of_one_name_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("inputs/whole_imgs/two.bmp").unlink()
    cv2.imwrite("inputs/whole_imgs/one.png", _read("inputs/whole_imgs/one.jpg"))
    assert main([]) == 0
    assert "one_00.png is that of one.png now, and was that of one.jpg" in capsys.readouterr().err
    assert {"restored_imgs/one.jpg", "restored_imgs/one.png"} <= set(_files())


def test_misuse_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-i", "nowhere"]) == 1
    assert "nowhere is no photo and no folder with photos" in capsys.readouterr().err
    assert main(["-s", "50"]) == 1
    assert "scale is 50" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["-v", "2"])
