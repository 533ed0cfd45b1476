"""Losses by hand, data without surprises, and real runs that are killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torchvision
import upstream
import yaml
from conftest import ROOT, TINY, random_network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from gfpgan_core import FaceRestorer, RestoreOptions, images
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.networks.arcface import ArcFace
from gfpgan_core.networks.discriminators import EqualisedConv2d
from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder
from gfpgan_core.weights import load_file, read_decoder
from train import checkpoint
from train.__main__ import main
from train.checkpoint import Checkpoint
from train.config import DiscriminatorConfig, LossConfig, TrainConfig, load_config
from train.ema import Ema
from train.faces import open_faces
from train.loop import train
from train.metrics import (
    frechet_distance,
    identity_similarity,
    load_metrics,
    perceptual_distance,
)
from train.optimise import TrainingError, generator_optimizer, rate_factor, set_rates
from train.validate import STRENGTHS, compare, degraded_pair, niqe, sharpness, validate


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


@pytest.fixture(scope="session")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights: what the features see doesn't matter here."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("features") / "mobilenet.pth"
    torch.save(torchvision.models.mobilenet_v2().state_dict(), path)
    return str(path)


def _full(faces: Path, run: Path, mobilenet: str, **values: object) -> TrainConfig:
    """Every term but the identity's, at a tiny size."""
    defaults: dict[str, object] = {
        "losses": LossConfig(
            pyramid_end_step=4,
            ssim=0.1,
            detail=0.1,
            gradient=0.1,
            perceptual=0.1,
            style=1,
            perceptual_backbone="mobilenet_v2",
            perceptual_weights=mobilenet,
            adversarial=0.1,
            component_adversarial=0.1,
            component_style=1,
            r1_every_steps=2,
        ),
        "discriminators": DiscriminatorConfig(
            narrow=0.125, component_narrow=0.125, stddev_group=2, warmup_steps=1
        ),
    }
    return _config(faces, run, **defaults | values)


def _prior(faces: Path, run: Path, **values: object) -> TrainConfig:
    defaults: dict[str, object] = {
        "objective": "prior",
        "generator": dataclasses.replace(TINY, mlp_layers=2),
        "discriminators": DiscriminatorConfig(narrow=0.125, stddev_group=2),
        "losses": LossConfig(r1_every_steps=2, path_length_every_steps=2),
    }
    return _config(faces, run, **defaults | values)


def test_rates_warm_up_and_fall(tmp_path: Path) -> None:
    config = _config(tmp_path, tmp_path, steps=110, warmup_steps=10)
    assert rate_factor(config, 0) == pytest.approx(0.1)
    assert rate_factor(config, 10) == pytest.approx(1)
    assert rate_factor(config, 60) == pytest.approx(0.5)
    assert rate_factor(config, 110) == pytest.approx(0, abs=1e-9)
    # A generator that waits for its discriminators starts its warm-up then.
    assert rate_factor(config, 20, first_step=20) == pytest.approx(0.1)
    steps = _config(
        tmp_path, tmp_path, schedule="milestones", milestones=(50, 80), milestone_factor=0.1
    )
    assert [rate_factor(steps, step) for step in (49, 50, 79, 80)] == pytest.approx(
        [1, 0.1, 0.1, 0.01]
    )


def test_equalised_rates_move_weights_as_upstreams_do() -> None:
    """One Adam step on the run-time scaled form, and on ours: the same effective weights."""
    torch.manual_seed(0)
    config = TrainConfig("run", "faces", learning_rate=2e-3, equalised_learning_rate=True)
    clean = torch.nn.Conv2d(8, 4, 3, padding=1, bias=False)
    equalised = EqualisedConv2d(8, 4, 3, 1, bias=False)
    with torch.no_grad():
        clean.weight.copy_(equalised.weight * equalised.gain)
    optimizer = generator_optimizer(clean, config)
    set_rates(optimizer, 1)
    theirs = torch.optim.Adam(equalised.parameters(), lr=2e-3, betas=(0.9, 0.99))
    x = torch.randn(2, 8, 6, 6)
    for network, adam in ((clean, optimizer), (equalised, theirs)):
        network(x).square().sum().backward()
        adam.step()
    assert torch.allclose(clean.weight, equalised.weight * equalised.gain, atol=1e-6)


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


Maker = Callable[..., TrainConfig]


def _makers(mobilenet: str) -> dict[str, Maker]:
    return {
        "pixels": _config,
        "full": lambda faces, run, **v: _full(faces, run, mobilenet, **v),
        "prior": _prior,
    }


@pytest.mark.parametrize("kind", ["pixels", "full", "prior"])
def test_resuming_equals_never_stopping_bit_for_bit(
    faces: Path, tmp_path: Path, mobilenet: str, kind: str
) -> None:
    make = _makers(mobilenet)[kind]
    train(make(faces, tmp_path / "whole"))
    _interrupt_after(make(faces, tmp_path / "parts", workers=1), 3)
    assert _newest(tmp_path / "parts").step == 2
    train(make(faces, tmp_path / "parts"))
    whole, parts = _newest(tmp_path / "whole"), _newest(tmp_path / "parts")
    assert whole.step == parts.step == 6
    assert (
        set(whole.networks)
        == {
            "pixels": {"generator"},
            "full": {"generator", "discriminator", "left_eye", "right_eye", "mouth"},
            "prior": {"generator", "discriminator"},
        }[kind]
    )
    pairs = [(whole.networks[name], parts.networks[name]) for name in whole.networks]
    for ours, theirs in [*pairs, (whole.ema, parts.ema)]:
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.scalars == parts.scalars


class _PowerCutError(Exception):
    pass


def _interrupt_after(config: TrainConfig, steps: int) -> None:
    """Runs a training that breaks down in the middle."""

    def fail(step: int, _: dict[str, float]) -> None:
        if step == steps:
            raise _PowerCutError

    with pytest.raises(_PowerCutError):
        train(config, fail)


def _run(config: TrainConfig, path: Path, *launcher: str) -> subprocess.CompletedProcess[str]:
    """A real training process, or several."""
    path.write_text(yaml.safe_dump(json.loads(json.dumps(dataclasses.asdict(config)))))
    command = [sys.executable, *launcher, "-m", "train", "--config", str(path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=180
    )


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def _three_ways(make: Maker, faces: Path, folder: Path, **values: Any) -> list[Checkpoint]:
    """One process, gradients accumulated over two parts, two processes: the same global batch."""
    train(make(faces, folder / "one", **values))
    train(make(faces, folder / "parts", **values, gradient_accumulation_steps=2))
    result = _run(make(faces, folder / "two", **values), folder / "c.yaml", *TORCHRUN)
    assert result.returncode == 0, result.stderr
    return [_newest(folder / name) for name in ("one", "parts", "two")]


def test_two_processes_and_accumulated_gradients_equal_one_process(
    faces: Path, tmp_path: Path, mobilenet: str
) -> None:
    make = _makers(mobilenet)["full"]
    one, *others = _three_ways(make, faces, tmp_path, batch_size=4, steps=3, device="cpu")
    for other in others:
        assert other.step == one.step == 3
        for name, state in one.networks.items():
            for key, value in state.items():
                difference = (value - other.networks[name][key]).abs().max().item()
                assert difference < 2e-4, (name, key, difference)  # a rate of 1e-3, three times


def test_a_priors_gradients_dont_depend_on_the_processes(faces: Path, tmp_path: Path) -> None:
    """Not its weights: without momentum, Adam's first steps are the sign of each gradient, and
    that of a gradient near 0 is rounding. Adam's first moment is the gradient itself."""
    one, *others = _three_ways(_prior, faces, tmp_path, batch_size=4, steps=1, device="cpu")
    for other in others:
        for name, optimizer in one.optimizers.items():
            for number, state in optimizer["state"].items():
                expected = state["exp_avg"]
                found = other.optimizers[name]["state"][number]["exp_avg"]
                tolerance = 1e-3 * expected.abs().max().item() + 1e-9
                assert (expected - found).abs().max().item() < tolerance, (name, number)


def test_two_processes_write_one_log(faces: Path, tmp_path: Path) -> None:
    config = _config(faces, tmp_path / "run", steps=3, device="cpu")
    assert _run(config, tmp_path / "c.yaml", *TORCHRUN).returncode == 0
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "log.jsonl").open()]
    assert steps == [1, 2, 3]


def test_fresh_discriminators_learn_first(faces: Path, tmp_path: Path, mobilenet: str) -> None:
    settings = DiscriminatorConfig(
        narrow=0.125, component_narrow=0.125, stddev_group=2, warmup_steps=3
    )
    states = []
    for steps in (1, 3, 4):
        config = _full(
            faces, tmp_path / str(steps), mobilenet, steps=steps, discriminators=settings
        )
        train(config)
        states.append(_newest(tmp_path / str(steps)).networks)
    first, third, fourth = states
    for name in first:
        key = next(iter(first[name]))
        moved = not torch.equal(first[name][key], third[name][key])
        assert moved == (name != "generator"), name
    key = "conv_body_first.weight"
    assert not torch.equal(third["generator"][key], fourth["generator"][key])


def test_training_starts_from_a_file_or_a_prior(faces: Path, tmp_path: Path) -> None:
    prior = train(_prior(faces, tmp_path / "prior", steps=2))
    generator = dataclasses.replace(TINY, mlp_layers=2, residual=True)
    config = _config(
        faces,
        tmp_path / "frozen",
        steps=2,
        generator=generator,
        prior=str(prior),
        freeze_decoder=True,
    )
    trained = load_file(train(config))
    drawn = load_file_state(prior)
    decoder = trained.stylegan_decoder.state_dict()
    assert all(torch.equal(decoder[name], drawn[name]) for name in drawn)

    start = tmp_path / "frozen" / "last.safetensors"
    config = _config(
        faces,
        tmp_path / "further",
        steps=1,
        generator=generator,
        start_from=str(start),
        learning_rate=1e-9,
    )
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
    train(_config(faces, tmp_path / "run", steps=1, generator=generator, prior=str(path)))


def test_tensorboard_best_and_last_weights(faces: Path, tmp_path: Path) -> None:
    config = _config(
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


def test_batches_that_processes_cant_share_are_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size is 3.* 2 must divide it"):
        train(_config(faces, tmp_path, batch_size=3, gradient_accumulation_steps=2))


def test_a_fine_tune_of_another_architecture_is_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="face_size_px 512 where the configuration says 64"):
        train(_config(faces, tmp_path, start_from="compact"))


def test_sharpness_by_hand() -> None:
    image = np.full((32, 32, 3), 100, np.uint8)
    image[16, 16] = 110  # the Laplacian: -40 there, 10 at four neighbours
    assert sharpness(image) == pytest.approx((40**2 + 4 * 10**2) / 32**2)


def test_niqe_is_basicsrs_and_rises_with_blur(portrait: ImageU8) -> None:
    blurred = np.asarray(cv2.GaussianBlur(portrait, (0, 0), 4), np.uint8)
    assert niqe(blurred) > niqe(portrait) > 0
    assert np.isnan(niqe(portrait[:96, :96]))


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
    network = load_file(train(dataclasses.replace(config, validate_every_steps=40)))
    entries = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    totals = [entry["total"] for entry in entries if "total" in entry]
    assert len(totals) == 40
    assert np.mean(totals[-10:]) < 0.8 * np.mean(totals[:10])
    (validation,) = [entry["validation"] for entry in entries if "validation" in entry]
    again = validate(network, open_faces(faces), config.validation_degradation, "cpu")
    # Another place in memory may round another way: a grey level of a few pixels.
    assert validation["faces"] == again.faces
    for kind in ("degraded", "restored"):
        measured = {k: v for k, v in vars(getattr(again, kind)).items() if v is not None}
        logged = {k: v for k, v in validation[kind].items() if v is not None}
        assert logged == pytest.approx(measured, rel=1e-4, nan_ok=True)


def test_a_loss_that_isnt_finite_stops_the_run_and_keeps_the_checkpoint(
    faces: Path, tmp_path: Path
) -> None:
    train(_config(faces, tmp_path, steps=2))
    found = _newest(tmp_path)
    found.networks["generator"]["final_conv.bias"][0] = torch.nan
    checkpoint.save(dataclasses.replace(found, step=3), tmp_path, keep=2)
    with pytest.raises(TrainingError, match="is nan at step 4: lower the learning rates"):
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
    assert (config.steps, config.losses.pyramid, config.learning_rate) == (5, 0, 3e-4)
    for override, text in (
        ("stepz=5", "unknown key stepz"),
        ("steps=many", "steps is 'many'; it takes a int"),
        (
            "losses.magic=1",
            "unknown key losses.magic; allowed here: adversarial, component",
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


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_resolves(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    resolved = yaml.safe_load(said)
    assert {"losses", "degradation", "steps"} <= set(resolved)
    assert "# generator: " in said
    without = ("compact_first_stage", "compact_third_stage")
    assert ("# discriminator: " in said) == (path.stem not in without)


def test_presets_of_degradations_can_be_named_and_changed() -> None:
    path = ROOT / "configs" / "gfpgan_v1.yaml"
    chosen = load_config(path, ["degradation=second_order"]).degradation
    assert chosen.second_probability == 0.8
    changed = load_config(
        path, ["degradation={preset: second_order, noise_sigma: [1, 2]}"]
    ).degradation
    assert changed == dataclasses.replace(chosen, noise_sigma=(1.0, 2.0))
    with pytest.raises(InputError, match="presets: paper, second_order"):
        load_config(path, ["degradation=magic"])


def test_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((200_000, 2))
    b = rng.standard_normal((200_000, 2)) * (2, 3) + (1, 0)
    # means 1 apart; sum of (1 - 2)^2 and (1 - 3)^2 of independent deviations
    assert frechet_distance(a, b) == pytest.approx(1 + 1 + 4, rel=0.02)


def test_figures_of_pretrained_networks_where_they_are_at_hand(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random weights under torchvision's file names: the real formats, the real places."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    source, config = open_faces(faces), STRENGTHS["medium"]
    network = random_network(0)
    without = validate(network, source, config, "cpu", load_metrics("", "cpu")).restored
    assert (without.lpips, without.fid, without.identity) == (None, None, None)

    torch.manual_seed(0)
    inception = torchvision.models.inception_v3(init_weights=False)
    torch.save(inception.state_dict(), hub / "inception_v3_google-0cc3c7bd.pth")
    torch.save(torchvision.models.alexnet().state_dict(), hub / "alexnet-owt-7be5be79.pth")
    torch.save(ArcFace().state_dict(), tmp_path / "arcface.pth")
    metrics = load_metrics(str(tmp_path / "arcface.pth"), "cpu")
    found = validate(network, source, config, "cpu", metrics)
    for quality in (found.degraded, found.restored):
        assert quality.lpips is not None and quality.lpips > 0
        assert quality.fid is not None and quality.fid > 0
        assert quality.identity is not None and -1 <= quality.identity < 1
    _, gt = degraded_pair(source, 0, config, 64)
    truth = images.to_pm1(gt)[None]
    assert perceptual_distance(metrics.lpips, truth, truth) == pytest.approx(0, abs=1e-6)
    assert metrics.identity is not None
    assert identity_similarity(metrics.identity, truth, truth) == pytest.approx(1, abs=1e-5)


def test_blended_weights_lie_between(tmp_path: Path) -> None:
    from gfpgan_core.weights import save_safetensors

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
