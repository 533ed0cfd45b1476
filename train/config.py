"""All settings of a training run: frozen dataclasses, read from YAML, saved with the run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from train.augmentation import AugmentationConfig
from train.degradation_config import PRESETS, DegradationConfig

PIXEL_TERMS = ("pixel", "multiscale", "gradient", "ssim", "detail")
"""The terms of `LossConfig` that compare pixels with the ground truth."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms; 0 switches a term off. The paper's values are in configs/gfpgan_v1."""

    pixel: float = 1.0
    pyramid: float = 1.0
    pyramid_end_step: int = 0
    """From this step on the pyramid term is off; 0: never."""
    multiscale: float = 0.0
    gradient: float = 0.0
    ssim: float = 0.0
    detail: float = 0.0
    perceptual: float = 0.0
    style: float = 0.0
    perceptual_backbone: Literal["vgg19", "mobilenet_v2"] = "vgg19"
    perceptual_weights: str = ""
    """File of the backbone's ImageNet weights; empty: an installed package's, else fetched."""
    projected_weights: str = ""
    """The same for the projected discriminator's MobileNetV2."""
    adversarial: float = 0.0
    """Weight of StyleGAN2's discriminator, which sees whole faces."""
    projected_adversarial: float = 0.0
    """Weight of the discriminator that sees frozen MobileNetV2 features."""
    patch_adversarial: float = 0.0
    """Weight of the discriminator of small patches with their fine detail amplified."""
    component_adversarial: float = 0.0
    """Weight of the discriminators of the eyes and of the mouth."""
    adaptive_weight: bool = False
    """The adversarial weights are ratios of gradients, as VQGAN's: see `train.balance`."""
    component_style: float = 0.0
    identity: float = 0.0
    identity_weights: str = ""
    """File of ArcFace's weights; empty: fetched."""
    r1: float = 10.0
    """Weight of the gradient penalty of real images, for the whole-face discriminator."""
    r1_every_steps: int = 16
    path_length: float = 2.0
    """Weight of the path length penalty of the prior's generator."""
    path_length_every_steps: int = 4

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if not isinstance(weight, str | bool) and weight < 0:
                raise InputError(f"losses.{name} is {weight}; must not be negative")
        for name in ("r1_every_steps", "path_length_every_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"losses.{name} is {getattr(self, name)}; must be at least 1")
        if self.component_style and not self.component_adversarial:
            raise InputError(
                "losses.component_style compares the features of the component discriminators,"
                " which train only with losses.component_adversarial above 0"
            )
        if self.adaptive_weight and not any(getattr(self, name) for name in PIXEL_TERMS):
            raise InputError(
                "losses.adaptive_weight compares with the gradient of the pixel terms, which are"
                " all 0: set losses.pixel above 0"
            )


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Size and training of the discriminators; each is there only if its loss has a weight."""

    channel_multiplier: int = 1
    narrow: float = 1.0
    """Width relative to StyleGAN2's discriminator."""
    component_narrow: float = 1.0
    """Width of the component and the patch discriminators, relative to the paper's."""
    high_pass_gain: float = 0.0
    """Amplification of the fine detail that patch and component discriminators see beside the
    image; 0: they see the image alone, as in the paper."""
    crop_px: int = 0
    """Side of the random crop that the projected and the patch discriminator see; 0: the face."""
    stddev_group: int = 4
    """Samples that minibatch_stddev compares, or the nearest number that divides the batch."""
    learning_rate: float = 2e-3
    projected_learning_rate: float = 1e-3
    """Of the projected discriminator's heads."""
    schedule: Literal["constant", "generator"] = "constant"
    """generator: the factor of the generator's schedule, as upstream's milestones have it."""
    start_from: str = ""
    """Run folder whose newest checkpoint gives the discriminators of the same names, and the state
    of their optimizer: the stage before this one."""
    warmup_steps: int = 0
    """Steps at the start in which only the discriminators learn: fresh ones would push a trained
    generator away from what it knows."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "projected_learning_rate"):
            if getattr(self, name) <= 0:
                raise InputError(f"discriminators.{name} is {getattr(self, name)}; must be above 0")
        for name, least in (
            ("warmup_steps", 0),
            ("stddev_group", 1),
            ("high_pass_gain", 0),
            ("crop_px", 0),
        ):
            if getattr(self, name) < least:
                raise InputError(
                    f"discriminators.{name} is {getattr(self, name)}; must be at least {least}"
                )


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    run_folder: str
    """Checkpoints, log and the resolved configuration go here; a run found here is resumed."""
    train_faces: str
    """Aligned face images: a folder, .zip, .tar or LMDB."""
    component_boxes: str = ""
    """File of eye and mouth boxes; empty: `components.json` in the folder, else the template's."""
    validation_faces: str = ""
    """Faces never trained on; empty: no validation."""
    on_bad_face: Literal["skip", "refuse"] = "skip"
    """Damaged or non-square files, found before the first step: leave them out with a warning, or
    end with a list of all of them."""
    check_faces: Literal["decode", "headers"] = "decode"
    """`headers` reads formats and sizes only: for so many faces that decoding each once is long."""
    objective: Literal["restoration", "prior"] = "restoration"
    """`prior` trains the StyleGAN2 decoder alone, to start a restoration from."""
    start_from: str = ""
    """Release (v1.4, say) or file whose generator training starts from; empty: from nothing."""
    adapt_start: bool = False
    """Let the start differ from `generator` in size and width: see `train.grow`."""
    prior: str = ""
    """File of a prior, or `official` (StyleGAN2 on FFHQ): what the decoder starts from."""
    freeze_decoder: bool = False
    """Only the U-Net and the SFT layers learn: the paper's way with a good prior."""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    degradation: DegradationConfig = field(default_factory=DegradationConfig)
    validation_degradation: DegradationConfig = field(default_factory=DegradationConfig)
    validation_strengths: tuple[Literal["mild", "medium", "heavy"], ...] = ()
    """Named strengths, which take the place of `validation_degradation`."""
    choose_by: Literal["psnr", "score"] = "psnr"
    """What `best.safetensors` is best by: score is `train.validate.Validation.score`."""
    losses: LossConfig = field(default_factory=LossConfig)
    seed: int = 0
    steps: int = 1000
    batch_size: int = 4
    """Of one step, over all processes and accumulated gradients together."""
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-3
    """The generator's, after the warm-up."""
    equalised_learning_rate: bool = False
    """Scale each weight's rate by 1 / sqrt(fan-in), as StyleGAN2 does at run time."""
    schedule: Literal["cosine", "milestones"] = "cosine"
    """The generator's. cosine: half a cosine down to `final_rate` of it at the last step."""
    final_rate: float = 0.0
    constant_share: float = 0.0
    """Share of the steps before the cosine begins to fall."""
    milestones: tuple[int, ...] = ()
    """Steps at which the rates are multiplied by `milestone_factor`."""
    milestone_factor: float = 0.5
    warmup_steps: int = 50
    gradient_clip_norm: float = 0.0
    """Largest norm of the generator's gradient, which is scaled down to it; 0: no limit."""
    ema_half_life_images: float = 1000
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: autocast; weights, optimizers and losses stay in float32."""
    device: Literal["auto", "cpu"] = "auto"
    """auto: whatever Accelerate finds, or `accelerate launch` was told."""
    workers: int = 1
    """Processes that load data; 0 loads in the training process."""
    checkpoint_every_steps: int = 200
    keep_checkpoints: int = 2
    validate_every_steps: int = 200
    log_every_steps: int = 10
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch_size",
            "gradient_accumulation_steps",
            "checkpoint_every_steps",
            "validate_every_steps",
            "keep_checkpoints",
            "log_every_steps",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; must be at least 1")
        for name in ("learning_rate", "ema_half_life_images", "milestone_factor"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; must be above 0")
        for name in ("workers", "warmup_steps", "seed", "gradient_clip_norm"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; must not be negative")
        for name in ("final_rate", "constant_share"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; allowed: 0 to below 1")
        if self.seed >= 2**64:  # torch's generators take no larger one
            raise InputError(f"seed is {self.seed}; allowed: 0 to {2**64 - 1}")
        if self.milestones and self.schedule == "cosine":
            raise InputError("milestones are for schedule: milestones; it is cosine")
        if self.start_from and self.prior:
            raise InputError("start_from brings a decoder along: leave prior empty, or start_from")


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
