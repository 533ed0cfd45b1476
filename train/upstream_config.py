"""Translate an option file of upstream's training to our configuration, and report every key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfpgan_core.errors import InputError
from gfpgan_core.weights.releases import ARCFACE, PRIOR
from train.config import TrainConfig
from train.config_file import apply_overrides, from_dict, read_yaml
from train.upstream_options import (
    BLURS,
    COMPONENT_NETWORKS,
    CONVERTED,
    EMA_HALF_LIFE_STEPS,
    FIXED,
    OFFICIAL_GPUS,
    RENAMED,
    TIMES_L1,
    WHERE_ABSENT,
    WITHOUT_MEANING,
)

_MISSING = object()


@dataclass
class Translation:
    """Values of our configuration, and a line of report on each of upstream's."""

    values: dict[str, Any] = field(default_factory=dict)
    """By our keys, such as `losses.pixel`."""
    lines: list[str] = field(default_factory=list)
    """`key: value -> key: value`, or the reason why there is none."""

    def put(self, theirs: str, given: Any, ours: str, value: Any, why: str = "") -> None:
        """Set a value of ours, and report the value of theirs that it comes from."""
        self.values[ours] = value
        self.lines.append(f"{theirs}: {given} -> {ours}: {value}{f' ({why})' if why else ''}")

    def grouped(self) -> dict[str, Any]:
        """Return the values as a configuration file has them."""
        groups: dict[str, Any] = {}
        for key, value in self.values.items():
            *outer, last = key.split(".")
            group = groups
            for name in outer:
                group = group.setdefault(name, {})
            group[last] = value
        return groups


def load_upstream_config(path: Path, overrides: list[str]) -> tuple[TrainConfig, list[str]]:
    """Return our configuration for a file of upstream's, and a line on each of its keys.

    Raises:
        InputError: unreadable, or a value that isn't supported here: the key is named.
    """
    options = read_yaml(path)
    if not isinstance(options, dict) or "network_g" not in options:
        raise InputError(f"{path} is no option file of a GFPGAN training: it has no network_g")
    try:
        translation = translate(options)
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:  # such as text for a list
        raise InputError(f"{path} is no option file that upstream takes: {error}") from error
    values = translation.grouped()
    apply_overrides(values, overrides)
    return from_dict(TrainConfig, values), translation.lines


def translate(options: dict[str, Any]) -> Translation:
    """Return the translation of upstream's options.

    Raises:
        InputError: a value that isn't supported here, or a missing one; the key is named.
    """
    given = dict(_flat(options))
    result = Translation(dict(WHERE_ABSENT))
    for key in list(given):
        _translate_key(key, given, result)
    _put_batch(given, result)
    _check_rates(given, result)
    _put_adam(result)
    _put_blurs(given, result)
    _put_generator(given, result)
    _put_components(given, [name for name in COMPONENT_NETWORKS if name in options], result)
    _put_identity(given, "network_identity" in options, result)
    for key, value in given.items():
        result.lines.append(f"{key}: {value} has no meaning here: {_reason(key)}")
    return result


def _flat(options: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return paths with dots and values, of groups in groups; empty groups are `None`."""
    found: list[tuple[str, Any]] = []
    for name, value in options.items():
        if isinstance(value, dict) and value:
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _translate_key(key: str, given: dict[str, Any], result: Translation) -> None:
    """Translate a key whose meaning depends on no other one; remove it from `given`."""
    if key in FIXED:
        if given[key] not in FIXED[key]:
            allowed = " or ".join(str(value) for value in FIXED[key])
            raise InputError(f"{key} is {given[key]}; here it can only be {allowed}")
        if key != "network_g.type":
            result.lines.append(f"{key}: {given.pop(key)}, as is built in here")
    elif key in RENAMED:
        value = given.pop(key)
        result.put(key, value, RENAMED[key], value)
    elif key in CONVERTED:
        ours, convert = CONVERTED[key]
        value = given.pop(key)
        try:
            result.put(key, value, ours, convert(value))
        except (TypeError, ValueError) as error:
            raise InputError(f"{key} is {value!r}, and can't be translated: {error}") from error
    elif key in TIMES_L1:
        value, l1 = _number(given, key, 0), _number(given, "train.L1_opt.loss_weight", 1)
        del given[key]
        result.put(key, value, TIMES_L1[key], value * l1, f"times L1_opt's {l1:g}" * (l1 != 1))
    elif key == "datasets.train.jpeg_range":
        value = given.pop(key)
        if value is None:
            result.put(key, value, "degradation.jpeg_probability", 0.0)
        else:
            result.put(key, value, "degradation.jpeg_quality", value)


def _number(given: dict[str, Any], key: str, default: float) -> float:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{key} is {value!r}; it takes a number")
    return float(value)


def _put_batch(given: dict[str, Any], result: Translation) -> None:
    """Put the batch of all processes together, and the averaging, which upstream counts in steps.

    `num_gpu: auto` counts as four, as in the official training.
    """
    key = "datasets.train.batch_size_per_gpu"
    each = _number(given, key, 0)
    given.pop(key, None)
    gpus = given.pop("num_gpu", "auto")
    count = OFFICIAL_GPUS if gpus == "auto" else max(int(gpus), 1)
    batch = int(each * count)
    if batch < 1:
        raise InputError(f"{key} is missing, or no number above 0")
    why = f"num_gpu {gpus}: {count}; write another number into the file if it isn't" * (count > 1)
    result.put(key, int(each), "batch_size", batch, why)
    half_life = EMA_HALF_LIFE_STEPS * batch
    result.put("(built in) EMA", "0.5 ** (32 / 10000) a step", "ema_half_life_images", half_life)


def _check_rates(given: dict[str, Any], result: Translation) -> None:
    """Refuse another learning rate for the component discriminators than for the first."""
    component = given.pop("train.optim_component.lr", None)
    if component is None:
        return
    rate = result.values.get("discriminators.learning_rate")
    if component != rate:
        raise InputError(
            f"train.optim_component.lr is {component}, train.optim_d.lr {rate}; here all"
            " discriminators have one rate"
        )
    result.lines.append(f"train.optim_component.lr: {component}, as train.optim_d.lr")


def _put_adam(result: Translation) -> None:
    """Put Adam's settings that are fixed in upstream's code."""
    result.put("(built in) Adam", "beta1 0 of the generator", "adam_beta1", 0.0)
    key = "discriminators.component_adam_beta1"
    result.put("(built in) Adam", "beta1 0.9 of the components", key, 0.9)


def _put_blurs(given: dict[str, Any], result: Translation) -> None:
    """Put the shares of the kinds of blur, drawn one by one here."""
    names = given.pop("datasets.train.kernel_list", ["iso", "aniso"])
    weights = given.pop("datasets.train.kernel_prob", [0.5, 0.5])
    unknown = [name for name in names if name not in BLURS]
    if unknown or len(names) != len(weights) or not sum(weights) > 0:
        raise InputError(
            f"datasets.train.kernel_list is {names} and kernel_prob {weights}; allowed: as many"
            f" weights as kinds, of {', '.join(BLURS)}"
        )
    shares = {"degradation.anisotropic_share": 0.0}
    for name, weight in zip(names, weights, strict=True):
        is_anisotropic, share = BLURS[name]
        shares["degradation.anisotropic_share"] += is_anisotropic * weight / sum(weights)
        if share:
            shares[share] = shares.get(share, 0.0) + weight / sum(weights)
    for ours, value in shares.items():
        result.put("datasets.train.kernel_list", f"{names} at {weights}", ours, value)


def _put_generator(given: dict[str, Any], result: Translation) -> None:
    """Put the form of the network, its prior, and the sizes that must agree with it."""
    kind = given.pop("network_g.type", _MISSING)
    if kind is _MISSING:
        raise InputError("network_g.type is missing")
    resampling = "fir" if kind == "GFPGANv1" else "bilinear"
    result.put("network_g.type", kind, "generator.resampling", resampling)
    scaled = kind != "GFPGANv1Clean"
    result.put("network_g.type", kind, "equalised_learning_rate", scaled)
    prior = given.pop("network_g.decoder_load_path", None)
    if result.values.get("start_from"):
        result.lines.append(f"network_g.decoder_load_path: {prior}, taken from start_from instead")
    else:
        value, why = _file_or(prior, PRIOR.name, "official")
        result.put("network_g.decoder_load_path", prior, "prior", value, why)
    size = result.values.get("generator.face_size_px")
    for key in ("datasets.train.out_size", "network_d.out_size"):
        other = given.pop(key, size)
        if other != size:
            raise InputError(f"{key} is {other}, network_g.out_size {size}: they must agree")
        result.lines.append(f"{key}: {other}, as network_g.out_size")


def _put_components(given: dict[str, Any], here: list[str], result: Translation) -> None:
    """Put the eyes' and the mouth's terms; their networks switch them on, as there."""
    weight = given.pop("train.gan_component_opt.loss_weight", None)
    if 0 < len(here) < len(COMPONENT_NETWORKS):
        raise InputError(f"of {', '.join(COMPONENT_NETWORKS)} only {', '.join(here)} is there")
    if here:
        key = "train.gan_component_opt.loss_weight"
        result.put(key, weight, "losses.component_adversarial", 1.0 if weight is None else weight)
    elif result.values.pop("losses.component_style", None):
        result.lines.append("train.comp_style_weight has no effect: there is no network_d_mouth")
    given.pop("train.L1_opt.loss_weight", None)
    crops = given.pop("datasets.train.crop_components", False)
    boxes = given.pop("datasets.train.component_path", None)
    if crops and boxes:
        result.put("datasets.train.component_path", boxes, "component_boxes", boxes)


def _put_identity(given: dict[str, Any], is_here: bool, result: Translation) -> None:
    """Put ArcFace's file where its network is there."""
    path = given.pop("path.pretrain_network_identity", None)
    if is_here:
        value, why = _file_or(path, ARCFACE.name, "")
        result.put("path.pretrain_network_identity", path, "losses.identity_weights", value, why)
    elif result.values.pop("losses.identity", None):
        result.lines.append("train.identity_weight has no effect: there is no network_identity")


def _file_or(path: str | None, official: str, fetched: str) -> tuple[str, str]:
    """Return a file's path; what means "fetch it" where the official one isn't there."""
    if path and Path(path).name == official and not Path(path).is_file():
        return fetched, "not there, and so fetched"
    return path or "", ""


def _reason(key: str) -> str:
    return next(
        (
            why
            for known, why in WITHOUT_MEANING.items()
            if key == known or key.startswith(known + ".")
        ),
        "unknown",
    )
