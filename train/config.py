"""All settings of a training run, as frozen dataclasses; `train.config_file` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from train.augmentation import AugmentationConfig
from train.degradation_config import DegradationConfig

PIXEL_TERMS = ("pixel", "multiscale", "gradient", "ssim", "detail")
"""The terms of `LossConfig` that compare pixels with the ground truth."""


def _check_below_one(config: object, where: str, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise InputError(f"{where}{name} is {getattr(config, name)}; allowed: 0 to below 1")


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
    identity_network: Literal["arcface", "faceres"] = "arcface"
    """What tells persons apart: arcface, the paper's, which sees gray; faceres sees color."""
    identity_weights: str = ""
    """File of its weights; empty: ArcFace's, fetched. FaceRes': see `scripts.import_faceres`."""
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
    component_adam_beta1: float = 0.0
    """Of the eyes' and the mouth's; that of all others is 0."""
    schedule: Literal["constant", "generator"] = "constant"
    """generator: the factor of the generator's schedule, as upstream's milestones have it."""
    start_from: str = ""
    """Run folder whose newest checkpoint gives the discriminators of the same names, and the state
    of their optimizer: the stage before this one."""
    warmup_steps: int = 0
    """Steps at the start in which only the discriminators learn: fresh ones would push a trained
    generator away from what it knows."""

    def __post_init__(self) -> None:
        _check_below_one(self, "discriminators.", "component_adam_beta1")
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
    adam_beta1: float = 0.9
    """The restoration generator's; a prior's is 0, as StyleGAN2's."""
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
        _check_below_one(self, "", "final_rate", "constant_share", "adam_beta1")
        if self.seed >= 2**64:  # torch's generators take no larger one
            raise InputError(f"seed is {self.seed}; allowed: 0 to {2**64 - 1}")
        if self.milestones and self.schedule == "cosine":
            raise InputError("milestones are for schedule: milestones; it is cosine")
        if self.start_from and self.prior:
            raise InputError("start_from brings a decoder along: leave prior empty, or start_from")
