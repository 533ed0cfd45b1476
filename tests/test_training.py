"""What a training does: rates, starts, log, weights; and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import upstream
from conftest import ROOT, TINY, random_network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import full_run, newest, prior_run, tiny_run

from gfpgan_core.errors import InputError
from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder
from gfpgan_core.weights.checkpoint import read_decoder
from gfpgan_core.weights.load import load_file
from train import precision
from train.config import DiscriminatorConfig, TrainConfig
from train.discriminators import EqualizedConv2d
from train.ema import Ema
from train.faces import open_faces
from train.loop import train
from train.metrics import load_metrics
from train.optimize import generator_optimizer, rate_factor, set_rates
from train.validate import validate

pytestmark = pytest.mark.usefixtures("one_thread")


def test_rates_warm_up_and_fall(tmp_path: Path) -> None:
    config = tiny_run(tmp_path, tmp_path, steps=110, warmup_steps=10)
    assert rate_factor(config, 0) == pytest.approx(0.1)
    assert rate_factor(config, 10) == pytest.approx(1)
    assert rate_factor(config, 60) == pytest.approx(0.5)
    assert rate_factor(config, 110) == pytest.approx(0, abs=1e-9)
    # A generator that waits for its discriminators starts its warm-up then.
    assert rate_factor(config, 20, first_step=20) == pytest.approx(0.1)
    steps = tiny_run(
        tmp_path, tmp_path, schedule="milestones", milestones=(50, 80), milestone_factor=0.1
    )
    assert [rate_factor(steps, step) for step in (49, 50, 79, 80)] == pytest.approx(
        [1, 0.1, 0.1, 0.01]
    )


def test_equalized_rates_move_weights_as_upstreams_do() -> None:
    """One Adam step on the run-time scaled form, and on ours: the same effective weights."""
    torch.manual_seed(0)
    config = TrainConfig("run", "faces", learning_rate=2e-3, equalised_learning_rate=True)
    clean = torch.nn.Conv2d(8, 4, 3, padding=1, bias=False)
    equalized = EqualizedConv2d(8, 4, 3, 1, bias=False)
    with torch.no_grad():
        clean.weight.copy_(equalized.weight * equalized.gain)
    optimizer = generator_optimizer(clean, config)
    set_rates(optimizer, 1)
    theirs = torch.optim.Adam(equalized.parameters(), lr=2e-3, betas=(0.9, 0.99))
    x = torch.randn(2, 8, 6, 6)
    for network, adam in ((clean, optimizer), (equalized, theirs)):
        network(x).square().sum().backward()
        adam.step()
    assert torch.allclose(clean.weight, equalized.weight * equalized.gain, atol=1e-6)


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


def test_fresh_discriminators_learn_first(faces: Path, tmp_path: Path, mobilenet: str) -> None:
    settings = DiscriminatorConfig(
        narrow=0.125, component_narrow=0.125, stddev_group=2, warmup_steps=3
    )
    states = []
    for steps in (1, 3, 4):
        config = full_run(
            faces, tmp_path / str(steps), mobilenet, steps=steps, discriminators=settings
        )
        train(config)
        states.append(newest(tmp_path / str(steps)).networks)
    first, third, fourth = states
    for name in first:
        key = next(iter(first[name]))
        moved = not torch.equal(first[name][key], third[name][key])
        assert moved == (name != "generator"), name
    key = "conv_body_first.weight"
    assert not torch.equal(third["generator"][key], fourth["generator"][key])


def test_training_starts_from_a_file_or_a_prior(faces: Path, tmp_path: Path) -> None:
    prior = train(prior_run(faces, tmp_path / "prior", steps=2))
    generator = dataclasses.replace(TINY, mlp_layers=2, residual=True)
    start = {"generator": generator, "prior": str(prior), "freeze_decoder": True}
    trained = load_file(train(tiny_run(faces, tmp_path / "frozen", steps=2, **start)))
    drawn = load_file_state(prior)
    decoder = trained.stylegan_decoder.state_dict()
    assert all(torch.equal(decoder[name], drawn[name]) for name in drawn)

    start = {"generator": generator, "start_from": str(tmp_path / "frozen" / "last.safetensors")}
    config = tiny_run(faces, tmp_path / "further", steps=1, learning_rate=1e-9, **start)
    further = load_file(train(config)).state_dict()
    before = trained.state_dict()
    assert all(torch.allclose(further[name], before[name], atol=1e-6) for name in before)
    wrong = dataclasses.replace(config, generator=TINY, run_folder=str(tmp_path / "wrong"))
    with pytest.raises(InputError, match="residual True where the configuration says False"):
        train(wrong)


def load_file_state(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file as load_tensors

    return load_tensors(path)


def test_the_official_priors_form_becomes_the_decoder(faces: Path, tmp_path: Path) -> None:
    """basicsr's own StyleGAN2 with random weights draws what our decoder draws from its file."""
    from basicsr.archs.stylegan2_arch import StyleGAN2Generator

    torch.manual_seed(0)
    theirs = upstream.fill_zeros(
        StyleGAN2Generator(64, num_style_feat=64, num_mlp=2, channel_multiplier=1, narrow=0.125)
    )
    path = tmp_path / "prior.pth"
    torch.save({"params_ema": theirs.state_dict()}, path)
    config = dataclasses.replace(TINY, mlp_layers=2, resampling="fir")
    decoder = StyleGAN2Decoder(config)
    decoder.load_state_dict(read_decoder(path))
    z = torch.randn(2, 64)
    with upstream.cpu_activations(), torch.no_grad():
        expected, _ = theirs([z], randomize_noise=False)
        codes = decoder.style_mlp(z)[:, None].expand(-1, config.style_count, -1)
        assert torch.allclose(decoder(codes), expected, atol=1e-4)
    generator = dataclasses.replace(config, residual=True)
    train(tiny_run(faces, tmp_path / "run", steps=1, generator=generator, prior=str(path)))


def test_tensorboard_best_and_last_weights(faces: Path, tmp_path: Path) -> None:
    config = tiny_run(
        faces, tmp_path, validation_faces=str(faces), tensorboard=True, validate_every_steps=3
    )
    train(config)
    accumulator = EventAccumulator(str(tmp_path / "tensorboard"))
    accumulator.Reload()
    tags = accumulator.Tags()
    assert {"loss/pixel", "loss/total", "validation/psnr_db"} <= set(tags["scalars"])
    assert tags["images"] == ["validation"]
    assert load_file(tmp_path / "best.safetensors").config == config.generator
    assert load_file(tmp_path / "last.safetensors").config == config.generator


def test_a_fine_tune_of_another_architecture_is_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="face_size_px 512 where the configuration says 64"):
        train(tiny_run(faces, tmp_path, start_from="compact"))


def test_training_lowers_the_loss_and_logs_it(faces: Path, tmp_path: Path) -> None:
    config = tiny_run(faces, tmp_path, steps=40, learning_rate=2e-3, validation_faces=str(faces))
    network = load_file(train(dataclasses.replace(config, validate_every_steps=40)))
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    totals = [entry["total"] for entry in entries if "total" in entry]
    assert len(totals) == 40
    assert np.mean(totals[-10:]) < 0.8 * np.mean(totals[:10])
    (validation,) = [entry["validation"] for entry in entries if "validation" in entry]
    metrics = load_metrics("", "cpu")  # what is at hand on this machine
    again = validate(network, open_faces(faces), config.validation_degradation, "cpu", metrics)
    # Another place in memory may round another way: a gray level of a few pixels.
    assert validation["faces"] == again.faces
    for kind in ("degraded", "restored"):
        measured = {k: v for k, v in vars(getattr(again, kind)).items() if v is not None}
        logged = {k: v for k, v in validation[kind].items() if v is not None}
        assert logged == pytest.approx(measured, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize("bf16_s", [0.06, 0.005])
def test_a_processor_that_bf16_slows_down_is_warned_of(
    faces: Path,
    tmp_path: Path,
    bf16_s: float,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On AVX2 a step took 35 s instead of 6, without a word."""
    seconds = {torch.bfloat16: bf16_s, torch.float32: 0.01}
    monkeypatch.setattr(precision, "convolution_seconds", seconds.__getitem__)
    train(tiny_run(faces, tmp_path / "run", steps=1, precision="bf16"))
    assert ("bf16 takes 6.0 times as long" in caplog.text) == (bf16_s == 0.06)


def test_measuring_bf16_leaves_a_runs_random_numbers_as_they_are() -> None:
    before = torch.get_rng_state()
    assert precision.convolution_seconds(torch.bfloat16) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_blended_weights_lie_between(tmp_path: Path) -> None:
    from gfpgan_core.weights.checkpoint import save_safetensors

    networks = [random_network(seed) for seed in (0, 1)]
    for name, network in zip("ab", networks, strict=True):
        save_safetensors(network, tmp_path / f"{name}.safetensors")
    a, b, out = (str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "out"))
    command = [sys.executable, "-m", "scripts.blend_weights"]
    subprocess.run([*command, a, b, "0.25", out], cwd=ROOT, check=True)
    name = "final_conv.weight"
    first, second = (network.state_dict()[name] for network in networks)
    found = load_file(Path(out)).state_dict()[name]
    assert torch.allclose(found, 0.75 * first + 0.25 * second, atol=1e-6)
    refused = subprocess.run([*command, a, b, "2", out], cwd=ROOT, capture_output=True, check=False)
    assert refused.returncode == 1 and b"allowed: 0 to 1" in refused.stderr
