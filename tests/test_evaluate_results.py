"""Folders of results measured: figures by hand and by basicsr, pairs, what is left out."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
import pages
import pytest
import torch
from cli_runs import Cli, cli

from gfpgan_core import compat, images
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from scripts import evaluate_results
from scripts.evaluate_results import luma, main, measure, pictures_in
from train.metrics import Metrics

__all__ = ["cli"]


def _flat(*rgb: int, side: int = 32) -> ImageU8:
    return np.full((side, side, 3), rgb, np.uint8)


def _save(path: Path, image: ImageU8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write(path, images.encode(image, None, "png"))
    return path


def test_luma_is_bt_601s() -> None:
    for rgb, expected in (((255, 255, 255), 235.0), ((0, 0, 0), 16.0), ((255, 0, 0), 81.481)):
        assert luma(_flat(*rgb))[0, 0] == pytest.approx(expected)


def test_figures_of_flat_pictures_are_those_by_hand() -> None:
    """Ten levels apart in RGB; in Y 10 * 219 / 255."""
    figures = measure(_flat(110, 110, 110), _flat(100, 100, 100), Metrics(), None)
    assert figures.psnr_rgb_db == pytest.approx(20 * math.log10(255 / 10))
    assert figures.psnr_y_db == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)))
    c1 = (0.01 * 255) ** 2
    assert figures.ssim_rgb == pytest.approx((2 * 110 * 100 + c1) / (110**2 + 100**2 + c1))
    a, b = (16 + level * 219 / 255 for level in (110, 100))
    assert figures.ssim_y == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_psnr_is_basicsrs(portrait: ImageU8) -> None:
    compat.restore_functional_tensor()
    from basicsr.metrics import calculate_psnr

    truth = portrait[100:260, 150:310]
    noise = np.random.default_rng(0).normal(0, 9, truth.shape)
    image = np.clip(truth + noise, 0, 255).astype(np.uint8)
    ours = measure(image, truth, Metrics(), None)
    bgr = [np.ascontiguousarray(one[..., ::-1]) for one in (image, truth)]
    for ours_db, is_y in ((ours.psnr_rgb_db, False), (ours.psnr_y_db, True)):
        theirs_db = calculate_psnr(*bgr, crop_border=0, test_y_channel=is_y)
        assert ours_db == pytest.approx(theirs_db, abs=1e-3)


def test_folders_of_several_tools_make_one_table(
    portrait: ImageU8, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = portrait[60:260, 120:320]
    for name in ("a", "sub/b", "c"):
        _save(tmp_path / "truths" / f"{name}.png", truth)
        _save(tmp_path / "same" / f"{name}_00.png", truth)
    _save(tmp_path / "other" / "a_00.png", truth - np.minimum(truth, 10))
    _save(tmp_path / "other" / "c_00.png", truth[:100])
    _save(tmp_path / "other" / "d_00.png", truth)
    table, plot = tmp_path / "figures.csv", tmp_path / "plot.png"
    status = main(
        [
            *(str(tmp_path / name) for name in ("same", "other")),
            *("--truths", str(tmp_path / "truths"), "--suffix", "_00"),
            *("--csv", str(table), "--plot", str(plot)),
        ]
    )
    captured = capsys.readouterr()
    assert status == 1  # of "other"
    assert "left out" in captured.out and "ArcFace in the weights' folder" in captured.out
    for said in ("no result for sub/b", "its truth 200x200", "d_00.png: has no truth"):
        assert said in captured.err
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == ["a", "c", "sub/b", "a"]
    assert [row["psnr_rgb_db"] for row in rows[:3]] == ["inf"] * 3
    assert [float(row["landmarks_px"]) for row in rows[:3]] == [0.0] * 3
    assert rows[0]["lpips"] == ""
    assert float(rows[3]["psnr_rgb_db"]) > 28 > 0
    assert 0 < float(rows[3]["landmarks_px"]) < 10
    assert images.read_rgb(plot).shape[0] > 200
    same = [str(tmp_path / "same"), "--truths", str(tmp_path / "truths"), "--suffix", "_00"]
    assert main([*same, "--no-landmarks"]) == 0


def test_results_alone_have_niqe(
    portrait: ImageU8, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _save(tmp_path / "results" / "a.png", portrait[:256, 100:356])
    assert main([str(tmp_path / "results")]) == 0
    *_, row = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1:6] == ["1", "", "", "", ""] and 2 < float(cells[6]) < 30


def test_the_commands_for_the_fields_test_sets_work_as_they_stand(
    portrait: ImageU8, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """With a restorer that changes nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    face = portrait[40:232, 130:322]
    for name in ("CelebA-Test/gt/a", "LFW-Test/a", "FFHQ/a"):
        _save(Path(f"{name}.png"), face)
    _save(Path("CelebA-Test/lq/a.png"), face - np.minimum(face, 10))
    for command in pages.commands("evaluation.md"):
        assert pages.run(command) == 0, command
    cli.read()
    for folder in ("CelebA-Test/lq", "results/CelebA-Test"):  # 10 levels: 28.13 dB
        assert re.search(rf"^\| {folder} \| 1 \| 28\.\d+ \|", cli.out, re.M)
    (said,) = [line for line in cli.out.splitlines() if "all that compares with a truth" in line]
    assert said.startswith("left out, as something is missing: FID: torchvision's Inception")
    assert re.search(r"^\| results/LFW-Test \| 1 \|  \|  \|  \|  \| \d+\.", cli.out, re.M)
    assert Path("figures.csv").is_file() and Path("figures.png").is_file()


def test_fid_compares_with_the_reference(
    portrait: ImageU8,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With mean colors in place of Inception's features: the same colors are at 0."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    monkeypatch.setattr(evaluate_results, "load_metrics", lambda *_: Metrics(inception=network))
    for name, shift in (("a", 0), ("b", 20)):
        _save(tmp_path / "results" / f"{name}.png", portrait[:192, 100:292] // 2 + np.uint8(shift))
        _save(tmp_path / "same" / f"x{name}.png", portrait[:192, 100:292] // 2 + np.uint8(shift))
        _save(
            tmp_path / "brighter" / f"{name}.png",
            portrait[:192, 100:292] // 2 + np.uint8(shift + 51),
        )
    found = []
    for reference in ("same", "brighter"):
        assert main([str(tmp_path / "results"), "--reference", str(tmp_path / reference)]) == 0
        found.append(float(capsys.readouterr().out.split("|")[-2]))
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert found[1] == pytest.approx(3 * (51 / 127.5) ** 2, abs=1e-3)  # of three equal shifts


def test_what_cant_be_paired_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no picture"):
        pictures_in(tmp_path)
    _save(tmp_path / "a.png", _flat(1, 2, 3))
    _save(tmp_path / "a.webp", _flat(1, 2, 3))
    with pytest.raises(InputError, match="results of one picture"):
        pictures_in(tmp_path)
    assert main([str(tmp_path)]) == 1
