"""Upstream's option files: each key translated, built in, named as without meaning, or refused."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT

from gfpgan_core.errors import InputError
from train.__main__ import main
from train.config import TrainConfig
from train.config_file import load_config
from train.upstream_config import load_upstream_config, translate

DATA = Path(__file__).parent / "data"
OFFICIAL = DATA / "upstream_train_gfpgan_v1.yml"
SIMPLE = DATA / "upstream_train_gfpgan_v1_simple.yml"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in the files lead to nothing, whatever lies in the project's folder."""
    monkeypatch.chdir(tmp_path)


def _options(**changes: Any) -> dict[str, Any]:
    """The official options with values replaced, by keys with `__` for dots; `...` takes it out."""
    options: dict[str, Any] = yaml.safe_load(OFFICIAL.read_text())
    for key, value in changes.items():
        *outer, last = key.split("__")
        group = options
        for name in outer:
            group = group[name]
        if value is ...:
            group.pop(last)
        else:
            group[last] = value
    return options


def _config(tmp_path: Path, **changes: Any) -> TrainConfig:
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump(_options(**changes)))
    return load_upstream_config(path, [])[0]


def test_the_official_file_becomes_the_published_training() -> None:
    config, _ = load_upstream_config(OFFICIAL, [])
    assert (config.train_faces, config.validation_faces) == (
        "datasets/ffhq/ffhq_512",
        "datasets/faces/validation/reference",
    )
    assert config.component_boxes.endswith("FFHQ_eye_mouth_landmarks_512.pth")
    assert config.prior == "official" and config.freeze_decoder
    assert (config.generator.face_size_px, config.generator.channel_multiplier) == (512, 1)
    assert config.generator.resampling == "fir" and config.equalised_learning_rate
    losses, degradation = config.losses, config.degradation
    assert (losses.pixel, losses.pyramid, losses.pyramid_end_step) == (0.1, 1, 50_000)
    assert (losses.perceptual, losses.style, losses.perceptual_backbone) == (1, 50, "vgg19")
    assert (losses.adversarial, losses.component_adversarial) == (0.1, 1)
    assert (losses.component_style, losses.identity, losses.r1) == (200, 10, 10)
    assert losses.r1_every_steps == 16
    assert degradation.blur_sigma_px == (0.1, 10) and degradation.anisotropic_share == 0.5
    assert degradation.downsample_factor == (0.8, 8)
    assert degradation.noise_sigma == (0, 20) and degradation.jpeg_quality == (60, 100)
    assert (degradation.colour_shift_probability, degradation.colour_shift) == (0.3, 20)
    assert degradation.colour_jitter_probability == 0.3 and degradation.grey_probability == 0.01
    assert (config.learning_rate, config.discriminators.learning_rate) == (2e-3, 2e-3)
    assert (config.adam_beta1, config.discriminators.component_adam_beta1) == (0, 0.9)
    assert (config.milestones, config.milestone_factor) == ((600_000, 700_000), 0.5)
    assert (config.steps, config.warmup_steps, config.batch_size) == (800_000, 0, 12)
    assert config.ema_half_life_images == 3750
    assert (config.validate_every_steps, config.checkpoint_every_steps) == (5000, 5000)
    assert config.tensorboard and config.workers == 6 and config.log_every_steps == 100


@pytest.mark.parametrize(
    ("theirs", "ours"), [(OFFICIAL, "gfpgan_v1"), (SIMPLE, "gfpgan_v1_simple")]
)
def test_both_published_files_become_our_configurations_of_them(theirs: Path, ours: str) -> None:
    """They were written by hand, from the paper and the same files."""
    config, _ = load_upstream_config(theirs, [])
    by_hand = load_config(ROOT / "configs" / f"{ours}.yaml", [])
    places = ("run_folder", "train_faces", "component_boxes", "validation_faces")
    same = {name: getattr(config, name) for name in places} | {"keep_checkpoints": 2}
    assert config == dataclasses.replace(by_hand, **same)


def _keys(options: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in options.items():
        inner = isinstance(value, dict)
        found += _keys(value, f"{prefix}{name}.") if inner else [f"{prefix}{name}"]
    return found


@pytest.mark.parametrize("path", [OFFICIAL, SIMPLE], ids=["v1", "simple"])
def test_every_key_of_a_published_file_is_told_and_none_is_unknown(path: Path) -> None:
    options = yaml.safe_load(path.read_text())
    before = copy.deepcopy(options)
    lines = translate(options).lines
    # Told with another key: kernel_prob with kernel_list; num_gpu with the batch; L1's 1 needs no
    # word; whether boxes are used, with their path.
    elsewhere = {
        "num_gpu",
        "datasets.train.kernel_prob",
        "train.L1_opt.loss_weight",
        "datasets.train.crop_components",
    }
    for key in set(_keys(options)) - elsewhere:
        assert any(line.startswith(f"{key}: ") for line in lines), key
    assert not [line for line in lines if line.endswith("unknown")]
    assert options == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_gpu": 2}, {"batch_size": 6, "ema_half_life_images": 1875.0}),
        ({"num_gpu": 0}, {"batch_size": 3}),
        (
            {"network_g__type": "GFPGANBilinear"},
            {"generator.resampling": "bilinear", "equalised_learning_rate": True},
        ),
        (
            {"network_g__type": "GFPGANv1Clean", "network_g__channel_multiplier": 2},
            {"generator.channel_multiplier": 2, "equalised_learning_rate": False},
        ),
        (
            {"datasets__train__color_jitter_prob": None, "datasets__train__gray_prob": ...},
            {"degradation.colour_shift_probability": 0.0, "degradation.grey_probability": 0.0},
        ),
        ({"datasets__train__jpeg_range": None}, {"degradation.jpeg_probability": 0.0}),
        ({"datasets__train__noise_range": None}, {"degradation.noise_sigma": (0.0, 0.0)}),
        ({"datasets__train__hue": [-0.05, 0.1]}, {"degradation.hue_degrees": (-18.0, 36.0)}),
        (
            {
                "datasets__train__kernel_list": ["iso", "generalized_aniso", "plateau_iso"],
                "datasets__train__kernel_prob": [1, 2, 1],
            },
            {
                "degradation.anisotropic_share": 0.5,
                "degradation.generalized_share": 0.5,
                "degradation.plateau_share": 0.25,
            },
        ),
        (
            {"train__L1_opt__loss_weight": 0.5},
            {"losses.pyramid": 0.5, "losses.component_style": 100.0, "losses.identity": 5.0},
        ),
        ({"train__pixel_opt": ..., "train__net_d_init_iters": 9}, {"losses.pixel": 0.0}),
        (
            {"path__pretrain_network_g": "v1.pth"},
            {"start_from": "v1.pth", "prior": ""},
        ),
        ({"network_identity": ...}, {"losses.identity": 0.0}),
        ({"datasets__train__crop_components": False}, {"component_boxes": ""}),
        ({"datasets__val": ...}, {"validation_faces": ""}),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_values_are_translated(
    tmp_path: Path, changes: dict[str, Any], expected: dict[str, Any]
) -> None:
    config = _config(tmp_path, **changes)
    for key, value in expected.items():
        found: Any = config
        for name in key.split("."):
            found = getattr(found, name)
        assert found == value, key


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train__gan_opt__gan_type": "hinge"}, r"train\.gan_opt\.gan_type is hinge; here it can"),
        ({"train__scheduler__type": "CosineAnnealingRestartLR"}, r"can only be MultiStepLR"),
        ({"train__optim_component__lr": 1e-4}, r"optim_component\.lr is 0\.0001"),
        ({"datasets__train__out_size": 256}, r"train\.out_size is 256, network_g\.out_size 512"),
        ({"network_d_mouth": ...}, "only network_d_left_eye, network_d_right_eye is there"),
        ({"datasets__train__kernel_list": ["box", "iso"]}, "allowed: as many weights as kinds"),
        ({"train__total_iter": "many"}, "total_iter is 'many', and can't be translated"),
        ({"datasets__train__batch_size_per_gpu": ...}, "batch_size_per_gpu is missing"),
        ({"network_g": ...}, "no option file of a GFPGAN training"),
        ({"path__pretrain_network_d": "d.pth"}, "pretrain_network_d is d.pth; here it can only"),
        ({"name": ...}, "run_folder is missing"),
        ({"datasets__train__kernel_prob": 1}, "no option file that upstream takes"),
        ({"train__pyramid_loss_weight": "x"}, "pyramid_loss_weight is 'x'; it takes a number"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_what_cant_be_had_here_is_refused_by_its_key(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        _config(tmp_path, **changes)


def test_an_unknown_key_is_named() -> None:
    lines = translate(_options(train__surprise=3)).lines
    assert "train.surprise: 3 has no meaning here: unknown" in lines


def test_files_that_are_there_are_used(tmp_path: Path) -> None:
    for name in ("StyleGAN2_512_Cmul1_FFHQ_B12G4_scratch_800k", "arcface_resnet18"):
        path = tmp_path / "experiments" / "pretrained_models" / f"{name}.pth"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    config, _ = load_upstream_config(OFFICIAL, [])
    assert config.prior.endswith("800k.pth")
    assert config.losses.identity_weights.endswith("arcface_resnet18.pth")


def test_the_command_prints_what_became_of_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--upstream-config", str(OFFICIAL), "--set", "steps=5", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "# train.optim_g.lr: 0.002 -> learning_rate: 0.002" in said
    assert "# datasets.train.blur_kernel_size: 41 has no meaning here: " in said
    assert yaml.safe_load(said)["steps"] == 5  # the lines before it are comments


@pytest.mark.usefixtures("one_thread")
def test_a_training_runs_from_such_a_file(faces: Path, tmp_path: Path) -> None:
    boxes = {
        f"{number:08d}": {
            name: [float(value) for value in (x, y, 16)]
            for name, x, y in (("left_eye", 193, 240), ("right_eye", 319, 240), ("mouth", 257, 371))
        }
        for number in range(5)
    }
    torch.save(boxes, tmp_path / "boxes.pth")
    options = _options(
        num_gpu=1,
        datasets__val=...,
        datasets__train__dataroot_gt=str(faces),
        datasets__train__component_path=str(tmp_path / "boxes.pth"),
        datasets__train__out_size=64,
        datasets__train__num_worker_per_gpu=0,
        datasets__train__batch_size_per_gpu=1,
        network_g__decoder_load_path=None,
        network_g__out_size=64,
        network_g__narrow=0.125,
        network_g__num_style_feat=64,
        network_d__out_size=64,
        network_d__narrow=0.125,
        network_identity=...,
        train__perceptual_opt=...,
        train__total_iter=1,
    )
    path = tmp_path / "options.yml"
    path.write_text(yaml.safe_dump(options))
    assert (
        main(["--upstream-config", str(path), "--export", str(tmp_path / "out.safetensors")]) == 0
    )
    assert (tmp_path / "out.safetensors").is_file()
    assert (tmp_path / "experiments" / "train_GFPGANv1_512" / "log.jsonl").is_file()
