"""Losses by hand, data without surprises, and real runs that are killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, TINY, random_network
from torch.utils.data import DataLoader

from gfpgan_core import FaceRestorer, RestoreOptions, geometry, images
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from train import checkpoint
from train.__main__ import main
from train.checkpoint import Checkpoint
from train.config import LossConfig, TrainConfig, load_config
from train.dataset import FaceDataset, Sample, StepSampler, collate, list_faces, load_face
from train.degradations import DegradationConfig
from train.ema import Ema
from train.loop import TrainingError, learning_rate_at, train
from train.losses import gradient_loss, pixel_loss, pyramid_loss, ssim_loss
from train.step import generator_losses
from train.validate import compare, validate


@pytest.fixture(scope="module")
def faces(portrait: ImageU8, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five different square crops of a real photo, 96 px."""
    folder = tmp_path_factory.mktemp("faces")
    for i in range(5):
        crop = np.asarray(
            geometry.resize(portrait[10 * i : 200 + 10 * i, 120:320], (96, 96)), np.uint8
        )
        images.write(folder / f"{i}.png", images.encode(crop, None, "png"))
    return folder


def _config(faces: Path, run: Path, **values: object) -> TrainConfig:
    defaults: dict[str, object] = {
        "run_folder": str(run),
        "train_faces": str(faces),
        "generator": dataclasses.replace(TINY, residual=True),
        "steps": 6,
        "batch_size": 2,
        "workers": 0,
        "checkpoint_every_steps": 2,
        "warmup_steps": 2,
        "log_every_steps": 1,
    }
    return TrainConfig(**defaults | values)  # type: ignore[arg-type]


def test_losses_by_hand() -> None:
    gt = torch.zeros(1, 3, 4, 4)
    image = gt.clone()
    image[..., 0, 0] = 1.6  # one of 16 pixels
    assert pixel_loss(image, gt).item() == pytest.approx(0.1)
    # horizontal and vertical: one step of 1.6 among 12 differences each
    assert gradient_loss(image, gt).item() == pytest.approx(2 * 1.6 / 12)
    rgbs = [torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 4, 4), 0.25)]
    assert pyramid_loss(rgbs, gt).item() == pytest.approx(0.75)
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    half = torch.tensor([0.5, 2.5]).expand(1, 3, 2, 2)  # means of neighbours
    assert pyramid_loss([half], ramp).item() == pytest.approx(0)


def test_ssim_loss_equals_scikit_images_index(portrait: ImageU8) -> None:
    gt = portrait[:100, :120]
    noise = np.random.default_rng(0).normal(0, 15, gt.shape)
    image = np.clip(np.rint(gt + noise), 0, 255).astype(np.uint8)
    pair = (images.to_pm1(image)[None], images.to_pm1(gt)[None])
    assert 1 - ssim_loss(*pair).item() == pytest.approx(compare(image, gt).ssim, abs=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert 1 - ssim_loss(*pair).item() == pytest.approx(compare(image, gt).ssim, abs=1e-4)
    assert ssim_loss(pair[1], pair[1]).item() == pytest.approx(0, abs=1e-5)


def test_terms_can_be_switched_off_and_are_weighted() -> None:
    network = random_network(0)
    batch = Sample(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    losses = generator_losses(network, batch, LossConfig(pixel=2, pyramid=3, gradient=0))
    assert set(losses) == {"pixel", "pyramid", "total"}
    expected = 2 * losses["pixel"] + 3 * losses["pyramid"]
    assert losses["total"].item() == pytest.approx(expected.item())


def _dataset(faces: Path) -> FaceDataset:
    return FaceDataset(list_faces(faces), DegradationConfig(), face_size_px=64, seed=7)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_data_doesnt_depend_on_workers_or_interruption(faces: Path, workers: int) -> None:
    def batches(first: int, count: int, workers: int) -> list[Sample]:
        sampler = StepSampler(3, first, count)
        return list(
            DataLoader(
                _dataset(faces), batch_sampler=sampler, num_workers=workers, collate_fn=collate
            )
        )

    whole = batches(0, 6, 0)
    resumed = batches(4, 6, workers)
    for expected, found in zip(whole[4:], resumed, strict=True):
        assert torch.equal(expected.lq, found.lq) and torch.equal(expected.gt, found.gt)


def test_an_epoch_shows_every_face_once_and_degrades_it_anew_in_the_next(faces: Path) -> None:
    plain = FaceDataset(
        list_faces(faces),
        DegradationConfig(grey_probability=0),
        face_size_px=64,
        seed=7,
        flip=False,
    )
    first, second = ([plain[5 * epoch + i] for i in range(5)] for epoch in (0, 1))
    for epoch in (first, second):
        assert len({sample.gt.sum().item() for sample in epoch}) == 5
    lq = {sample.lq.sum().item() for sample in first + second}
    assert len(lq) == 10


def test_flips_are_whole_and_change_no_file(faces: Path) -> None:
    path = list_faces(faces)[0]
    gt = images.to_pm1(load_face(path, 64))
    dataset = FaceDataset([path], DegradationConfig(grey_probability=0), face_size_px=64, seed=1)
    seen = [dataset[k].gt for k in range(12)]
    flipped = [torch.equal(sample, gt.flip(-1)) for sample in seen]
    assert all(f or torch.equal(sample, gt) for f, sample in zip(flipped, seen, strict=True))
    assert 2 <= sum(flipped) <= 10


def test_unusable_folders_and_faces_are_named(tmp_path: Path, portrait: ImageU8) -> None:
    with pytest.raises(InputError, match="is no folder"):
        list_faces(tmp_path / "none")
    with pytest.raises(InputError, match="holds no image"):
        list_faces(tmp_path)
    images.write(tmp_path / "wide.png", images.encode(portrait[:100], None, "png"))
    with pytest.raises(InputError, match=r"512x100 px; training takes square"):
        load_face(tmp_path / "wide.png", 64)


def test_learning_rate_warms_up_and_falls_to_zero(tmp_path: Path) -> None:
    config = _config(tmp_path, tmp_path, steps=110, warmup_steps=10, learning_rate=1e-3)
    assert learning_rate_at(config, 0) == pytest.approx(1e-4)
    assert learning_rate_at(config, 10) == pytest.approx(1e-3)
    assert learning_rate_at(config, 60) == pytest.approx(5e-4)
    assert learning_rate_at(config, 110) == pytest.approx(0, abs=1e-9)


def test_ema_moves_half_way_in_its_half_life() -> None:
    network = random_network(0)
    ema = Ema(network, half_life_images=80)
    name = "final_conv.weight"
    start = ema.network.state_dict()[name].clone()
    with torch.no_grad():
        network.final_conv.weight.add_(1)
    for _ in range(10):  # 10 batches of 8 images: one half-life
        ema.update(network, 8, seen_images=10_000)
    moved = ema.network.state_dict()[name] - start
    assert torch.allclose(moved, torch.full_like(moved, 0.5), atol=1e-4)


def _newest(run: Path) -> Checkpoint:
    found = checkpoint.load_newest(run)
    assert found is not None
    return found


def test_resuming_equals_never_stopping_bit_for_bit(faces: Path, tmp_path: Path) -> None:
    train(_config(faces, tmp_path / "whole", steps=6))
    _interrupt_after(_config(faces, tmp_path / "parts", steps=6), 3)
    assert _newest(tmp_path / "parts").step == 2
    train(_config(faces, tmp_path / "parts", steps=6))
    whole, parts = _newest(tmp_path / "whole"), _newest(tmp_path / "parts")
    assert whole.step == parts.step == 6
    for ours, theirs in ((whole.generator, parts.generator), (whole.ema, parts.ema)):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def _interrupt_after(config: TrainConfig, steps: int) -> None:
    """Runs a training that breaks down in the middle, as from a full disk."""
    from train import loop

    original = loop._step

    def failing(state: loop.State, batch: Sample, config: TrainConfig) -> dict[str, float]:
        if state.step == steps:
            raise OSError("no space left")
        return original(state, batch, config)

    loop._step = failing
    try:
        with pytest.raises(OSError, match="no space"):
            train(config)
    finally:
        loop._step = original


def test_a_killed_process_resumes(faces: Path, tmp_path: Path) -> None:
    """SIGKILL at an arbitrary moment of a real run; what is on disk is whole."""
    path = tmp_path / "config.yaml"
    config = dataclasses.asdict(
        _config(faces, tmp_path / "run", steps=400, checkpoint_every_steps=1)
    )
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config))))
    command = [sys.executable, "-m", "train", "--config", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "run").glob("checkpoint_0000000[3-9].pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stopped_at = _newest(tmp_path / "run").step
    assert 3 <= stopped_at < 400
    result = subprocess.run(
        [
            *command,
            "--set",
            f"steps={stopped_at + 2}",
            "--export",
            str(tmp_path / "own.safetensors"),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "resuming with other values than before of: steps" in result.stderr
    assert f"resuming {tmp_path / 'run'} after step {stopped_at}" in result.stderr
    assert _newest(tmp_path / "run").step == stopped_at + 2
    restorer = FaceRestorer.from_file(tmp_path / "own.safetensors", device="cpu")
    restored = restorer.restore(faces / "0.png", RestoreOptions(aligned=True, scale=1))
    assert restored.image.shape == (96, 96, 3)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(faces: Path, tmp_path: Path) -> None:
    train(_config(faces, tmp_path, steps=4))
    newest = tmp_path / "checkpoint_00000004.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    assert _newest(tmp_path).step == 2


def test_only_the_newest_checkpoints_stay(faces: Path, tmp_path: Path) -> None:
    train(_config(faces, tmp_path, steps=6, keep_checkpoints=2))
    names = sorted(p.name for p in tmp_path.glob("checkpoint*"))
    assert names == ["checkpoint_00000004.pt", "checkpoint_00000006.pt"]


def test_training_lowers_the_loss_and_logs_it(faces: Path, tmp_path: Path) -> None:
    config = _config(faces, tmp_path, steps=40, learning_rate=2e-3, validation_faces=str(faces))
    network = train(dataclasses.replace(config, validate_every_steps=40))
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    totals = [entry["total"] for entry in entries if "total" in entry]
    assert len(totals) == 40
    assert np.mean(totals[-10:]) < 0.8 * np.mean(totals[:10])
    (validation,) = [entry["validation"] for entry in entries if "validation" in entry]
    again = validate(network, list_faces(faces), config.validation_degradation, "cpu")
    assert validation == dataclasses.asdict(again)


def test_a_loss_that_isnt_finite_stops_the_run_and_keeps_the_checkpoint(
    faces: Path, tmp_path: Path
) -> None:
    train(_config(faces, tmp_path, steps=2))
    found = _newest(tmp_path)
    found.generator["final_conv.bias"][0] = torch.nan
    checkpoint.save(dataclasses.replace(found, step=3), tmp_path, keep=2)
    with pytest.raises(TrainingError, match="the loss is nan at step 4: lower learning_rate"):
        train(_config(faces, tmp_path, steps=6))
    assert _newest(tmp_path).step == 3


def test_psnr_and_ssim_by_hand() -> None:
    gt = np.full((32, 32, 3), 100, np.uint8)
    quality = compare(gt + 10, gt)
    assert quality.psnr_db == pytest.approx(20 * np.log10(255 / 10))
    # Flat images: only the luminance term of SSIM is below 1.
    c1 = (0.01 * 255) ** 2
    assert quality.ssim == pytest.approx((2 * 110 * 100 + c1) / (110**2 + 100**2 + c1))


def test_config_files_resolve_and_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(ROOT / "configs" / "compact.yaml", ["steps=5", "losses.pyramid=0"])
    assert (config.steps, config.losses.pyramid, config.learning_rate) == (5, 0, 1e-3)
    for override, text in (
        ("stepz=5", "unknown key stepz"),
        ("steps=many", "steps is 'many'; it takes a int"),
        (
            "losses.magic=1",
            "unknown key losses.magic; allowed here: gradient, pixel",
        ),
        ("generator.face_size_px=500", "power of two"),
        ("degradation.noise_sigma=[1]", "noise_sigma is .* 2 values"),
        ("steps", "is no override"),
        ("precision=fp8", "precision is 'fp8'"),
    ):
        with pytest.raises(InputError, match=text):
            load_config(ROOT / "configs" / "compact.yaml", [override])
    path = tmp_path / "broken.yaml"
    path.write_text("run_folder: [")
    assert main(["--config", str(path)]) == 1
    assert "can't read the configuration" in capsys.readouterr().err
    assert main(["--config", str(ROOT / "configs" / "compact.yaml"), "--dry-run"]) == 0
    assert "face_size_px: 512" in capsys.readouterr().out


def test_a_run_folder_of_another_generator_is_refused(faces: Path, tmp_path: Path) -> None:
    train(_config(faces, tmp_path, steps=2))
    other = dataclasses.replace(TINY, style_features=32)
    with pytest.raises(InputError, match="another generator"):
        train(_config(faces, tmp_path, generator=other))
