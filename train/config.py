"""Every knob of a training run: frozen dataclasses, read from YAML, saved with the run."""

from __future__ import annotations

import dataclasses
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from train.degradations import DegradationConfig

_T = TypeVar("_T")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; 0 switches a term off."""

    pixel: float = 1.0
    pyramid: float = 1.0
    gradient: float = 0.0
    ssim: float = 0.0

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if weight < 0:
                raise InputError(f"losses.{name} is {weight}; a weight must not be negative")


@dataclass(frozen=True)
class TrainConfig:
    run_folder: str
    """Checkpoints, log and the resolved configuration go here; a run found here is resumed."""
    train_faces: str
    """Folder of aligned face images."""
    validation_faces: str = ""
    """Folder of faces never trained on; empty: no validation."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    validation_degradation: DegradationConfig = field(default_factory=DegradationConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    seed: int = 0
    steps: int = 1000
    batch_size: int = 4
    learning_rate: float = 1e-3
    """Peak of Adam's; falls to 0 along a half cosine after the warm-up."""
    warmup_steps: int = 50
    ema_half_life_images: float = 1000
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast; weights and optimizer stay in float32."""
    device: str = "cpu"
    workers: int = 1
    """Processes that load data; 0 loads in the training process."""
    checkpoint_every_steps: int = 200
    keep_checkpoints: int = 2
    validate_every_steps: int = 200
    log_every_steps: int = 10

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "checkpoint_every_steps",
            "validate_every_steps",
            "keep_checkpoints",
            "log_every_steps",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; must be at least 1")
        for name in ("learning_rate", "ema_half_life_images"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; must be above 0")
        if self.workers < 0 or self.warmup_steps < 0 or self.seed < 0:
            raise InputError("workers, warmup_steps and seed must not be negative")
        if self.precision not in ("fp32", "bf16"):
            raise InputError(f"precision is {self.precision!r}; allowed: 'fp32', 'bf16'")


def load_config(path: Path, overrides: list[str]) -> TrainConfig:
    """The configuration in a YAML file, with `key.inner=value` overrides applied.

    Raises:
        InputError: unreadable file, unknown key, value of the wrong type or out of range.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"can't read the configuration {path}: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold `key: value` lines")
    for override in overrides:
        _override(values, override)
    return from_dict(TrainConfig, values)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise InputError(f"{override!r} is no override; write key=value or key.inner=value")
    *outer, last = key.split(".")
    for name in outer:
        values = values.setdefault(name, {})
    values[last] = yaml.safe_load(text)


def from_dict(kind: type[_T], values: dict[str, Any], where: str = "") -> _T:
    """The dataclass `kind` filled from plain values, such as YAML or `dataclasses.asdict` give.

    Raises:
        InputError: names the key, what was given and what is allowed.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InputError(
            f"unknown key {where}{unknown[0]}; allowed here: {', '.join(sorted(hints))}"
        )
    missing = [
        f.name
        for f in dataclasses.fields(kind)  # type: ignore[arg-type]
        if f.name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{where}{missing[0]} is missing from the configuration")
    return kind(**{key: _convert(hints[key], v, where + key) for key, v in values.items()})


def _convert(hint: Any, value: Any, key: str) -> Any:
    """`value` as the annotated type, or an error that names the key."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InputError(f"{key} is {value!r}; it takes a group of keys")
        return from_dict(typing.cast(type, hint), value, key + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{key} is {value!r}; allowed: {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
            raise InputError(f"{key} is {value!r}; it takes {len(arguments)} values")
        return tuple(_convert(a, v, key) for a, v in zip(arguments, value, strict=True))
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{key} is {value!r}; it takes a {hint.__name__}")
    return value
