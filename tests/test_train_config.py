"""Configuration files of trainings: they resolve, and mistakes are named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from gfpgan_core.errors import InputError
from train.__main__ import main
from train.config_file import load_config
from train.upstream_config import load_upstream_config

COMPACT = ROOT / "experiments" / "compact" / "compact_stage4.yaml"


def test_config_files_resolve_and_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = load_config(COMPACT, ["steps=5", "losses.pyramid=0"])
    assert (config.steps, config.losses.pyramid, config.learning_rate) == (5, 0, 3e-4)
    for override, text in (
        ("stepz=5", "unknown key stepz"),
        ("steps=many", "steps is 'many'; it takes a int"),
        (
            "losses.magic=1",
            "unknown key losses.magic; allowed here: adaptive_weight, adversarial, ",
        ),
        ("generator.face_size_px=500", "power of two"),
        ("degradation.noise_sigma=[1]", "noise_sigma is .* 2 values"),
        ("steps", "is no override"),
        ("seed=18446744073709551616", "seed is 18446744073709551616; allowed: 0 to 184"),
        ("precision=fp8", "precision is 'fp8'"),
    ):
        with pytest.raises(InputError, match=text):
            load_config(COMPACT, [override])
    path = tmp_path / "broken.yaml"
    path.write_text("run_folder: [")
    assert main(["--config", str(path)]) == 1
    assert "can't read the configuration" in capsys.readouterr().err
    assert main(["--config", str(COMPACT), "--dry-run"]) == 0
    assert "face_size_px: 512" in capsys.readouterr().out


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "nan", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("learning_rate", "{}"),
        ("losses.pixel", "{}"),
        ("degradation.noise_sigma", "[0, {}]"),
        ("degradation.hue_degrees", "[{}, 3]"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_by_key(key: str, text: str, value: str) -> None:
    with pytest.raises(InputError, match=key):
        load_config(COMPACT, [f"{key}={text.format(value)}"])


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "configs").glob("*.yaml"), *(ROOT / "experiments").glob("*/*.yaml")]),
    ids=lambda p: p.stem,
)
def test_every_shipped_configuration_resolves(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    resolved = yaml.safe_load(said)
    assert {"losses", "degradation", "steps"} <= set(resolved)
    assert "# generator: " in said
    assert ("# discriminator: " in said) == bool(
        resolved["losses"]["adversarial"] or resolved["objective"] == "prior"
    )


def test_presets_of_degradations_can_be_named_and_changed() -> None:
    path = ROOT / "configs" / "gfpgan_v1.yaml"
    chosen = load_config(path, ["degradation=second_order"]).degradation
    assert chosen.second_probability == 1 and chosen.second_blur_probability == 0.8
    changed = load_config(
        path, ["degradation={preset: second_order, noise_sigma: [1, 2]}"]
    ).degradation
    assert changed == dataclasses.replace(chosen, noise_sigma=(1.0, 2.0))
    with pytest.raises(InputError, match="presets: mild, medium, heavy, paper, second_order"):
        load_config(path, ["degradation=magic"])


@pytest.mark.parametrize("read", [load_config, load_upstream_config])
@pytest.mark.parametrize(
    "content",
    [b"run_folder: \xff\xfe", b"seed: 2001-99-99", b"[" * 5000, b"a: \0", b"", b"- 1"],
    ids=["no text", "no date", "nested", "no character", "empty", "a list"],
)
def test_a_file_that_is_no_configuration_is_named(
    content: bytes, read: Callable[[Path, list[str]], object], tmp_path: Path
) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.yaml"):
        read(path, [])


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("steps.inner=5", "steps.inner: steps is no group of keys"),
        ("losses.pyramid.inner.more=5", "losses.pyramid is no group of keys"),
        ("steps=[", "'steps=\\[' is no override"),
        ("steps=2001-99-99", "'steps=2001-99-99' is no override"),
        ("steps=" + "[" * 5000, "is no override"),
    ],
)
def test_an_override_that_has_no_place_or_value_is_named(override: str, text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_config(COMPACT, ["losses.pyramid=1", "steps=3", override])


def test_keys_that_are_numbers_are_unknown_keys(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("run_folder: x\n1: 2\nzz: 3\n")
    with pytest.raises(InputError, match="unknown key 1; allowed here"):
        load_config(path, [])
