"""Settings of a training run read from YAML, or from plain values: types and keys are checked."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from gfpgan_core.errors import InputError
from train.config import TrainConfig
from train.degradation_config import PRESETS, DegradationConfig

_T = TypeVar("_T")

# Errors that the parser raises: ValueError for impossible dates, and for bytes that are no text.
_NO_YAML = (yaml.YAMLError, ValueError, RecursionError)


def load_config(path: Path, overrides: list[str]) -> TrainConfig:
    """Return the configuration in a YAML file, with `key.inner=value` overrides applied.

    Raises:
        InputError: unreadable file, unknown key, value of the wrong type or out of range.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold `key: value` lines")
    apply_overrides(values, overrides)
    return from_dict(TrainConfig, values)


def read_yaml(path: Path) -> Any:
    """Return the values in a YAML file: dictionaries, lists, numbers and texts.

    Raises:
        InputError: it can't be read, or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, *_NO_YAML) as error:
        raise InputError(f"can't read the configuration {path}: {error}") from error


def apply_overrides(values: dict[str, Any], overrides: list[str]) -> None:
    """Replace values, in place, by `key.inner=value` texts.

    Raises:
        InputError: a text of another form.
    """
    for override in overrides:
        _override(values, override)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    try:
        value = yaml.safe_load(text) if text else ""
    except _NO_YAML:
        equals = ""
    if not equals:
        raise InputError(f"{override[:80]!r} is no override; write key=value or key.inner=value")
    *outer, last = key.split(".")
    for depth, name in enumerate(outer, 1):
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise InputError(f"{key}: {'.'.join(outer[:depth])} is no group of keys")
    values[last] = value


def from_dict(kind: type[_T], values: dict[str, Any], where: str = "") -> _T:
    """Fill the dataclass `kind` from plain values, such as YAML or `dataclasses.asdict` give.

    Raises:
        InputError: names the key, what was given and what is allowed.
    """
    hints = typing.get_type_hints(kind)
    unknown = sorted(str(key) for key in values if key not in hints)
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
    """Return `value` as the annotated type, or raise an error that names the key."""
    if hint is DegradationConfig:
        value = _with_preset(value, key)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise InputError(f"{key} is {value!r}; it takes a group of keys")
        return from_dict(typing.cast(type, hint), value, key + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{key} is {value!r}; allowed: {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple and arguments[-1] is ...:
        if not isinstance(value, (list, tuple)):
            raise InputError(f"{key} is {value!r}; it takes a list")
        return tuple(_convert(arguments[0], v, key) for v in value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
            raise InputError(f"{key} is {value!r}; it takes {len(arguments)} values")
        return tuple(_convert(a, v, key) for a, v in zip(arguments, value, strict=True))
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)  # YAML reads 1e-3 as text
    if hint is float and isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key} is {value}; it takes a finite number")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{key} is {value!r}; it takes a {hint.__name__}")
    return value


def _with_preset(value: Any, key: str) -> Any:
    """Return a preset's values with those given beside it; `key: NAME` is the preset alone."""
    if isinstance(value, str):
        value = {"preset": value}
    if not isinstance(value, dict) or "preset" not in value:
        return value
    changed = {name: v for name, v in value.items() if name != "preset"}
    if value["preset"] not in PRESETS:
        raise InputError(f"{key} is {value['preset']!r}; presets: {', '.join(PRESETS)}")
    return dataclasses.asdict(PRESETS[value["preset"]]) | changed
