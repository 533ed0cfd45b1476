"""Tables of the keys of upstream's option files and ours, read by `train.upstream_config`.

Source: gfpgan 1.3.8's options, its data set and its model. Keys are written as paths with dots.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_TRAIN, _NET_G, _NET_D = "datasets.train", "network_g", "network_d"
_COMPONENTS = ("left_eye", "right_eye", "mouth")
COMPONENT_NETWORKS = tuple(f"network_d_{name}" for name in _COMPONENTS)


def _or_zero(value: Any) -> Any:
    """Return the value; `~` is how upstream switches a probability off."""
    return 0.0 if value is None else value


def _degrees(turns: list[float]) -> list[float]:
    """Return the hue's range in degrees; torchvision's 0.5 is half a turn."""
    return [360 * turn for turn in turns]


# Our values where a file of upstream's lacks the key: there, what is absent is off.
WHERE_ABSENT: dict[str, Any] = {
    "schedule": "milestones",
    "discriminators.schedule": "generator",  # upstream's milestones are of all rates
    "warmup_steps": 0,
    "losses.pixel": 0.0,
    "losses.pyramid": 0.0,
    "degradation.colour_shift_probability": 0.0,
    "degradation.colour_jitter_probability": 0.0,
    "degradation.grey_probability": 0.0,
}

# Key -> our key, where the value is the same.
RENAMED: dict[str, str] = {
    f"{_TRAIN}.dataroot_gt": "train_faces",
    f"{_TRAIN}.use_hflip": "augmentation.flip",
    f"{_TRAIN}.blur_sigma": "degradation.blur_sigma_px",
    f"{_TRAIN}.downsample_range": "degradation.downsample_factor",
    f"{_TRAIN}.color_jitter_shift": "degradation.colour_shift",
    f"{_TRAIN}.brightness": "degradation.brightness",
    f"{_TRAIN}.contrast": "degradation.contrast",
    f"{_TRAIN}.saturation": "degradation.saturation",
    f"{_TRAIN}.num_worker_per_gpu": "workers",
    "datasets.val.dataroot_gt": "validation_faces",
    f"{_NET_G}.out_size": "generator.face_size_px",
    f"{_NET_G}.num_style_feat": "generator.style_features",
    f"{_NET_G}.channel_multiplier": "generator.channel_multiplier",
    f"{_NET_G}.num_mlp": "generator.mlp_layers",
    f"{_NET_G}.fix_decoder": "freeze_decoder",
    f"{_NET_D}.channel_multiplier": "discriminators.channel_multiplier",
    f"{_NET_D}.stddev_group": "discriminators.stddev_group",
    "train.optim_g.lr": "learning_rate",
    "train.optim_d.lr": "discriminators.learning_rate",
    "train.scheduler.milestones": "milestones",
    "train.perceptual_opt.vgg_type": "losses.perceptual_backbone",
    "logger.use_tb_logger": "tensorboard",
}

# Key -> our key, and the function from upstream's value to ours.
CONVERTED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "name": ("run_folder", lambda name: f"experiments/{name}"),
    "manual_seed": ("seed", _or_zero),
    f"{_TRAIN}.noise_range": ("degradation.noise_sigma", lambda value: value or [0, 0]),
    f"{_TRAIN}.color_jitter_prob": ("degradation.colour_shift_probability", _or_zero),
    f"{_TRAIN}.color_jitter_pt_prob": ("degradation.colour_jitter_probability", _or_zero),
    f"{_TRAIN}.hue": ("degradation.hue_degrees", _degrees),
    f"{_TRAIN}.gray_prob": ("degradation.grey_probability", _or_zero),
    f"{_NET_G}.narrow": ("generator.narrow", float),
    f"{_NET_D}.narrow": ("discriminators.narrow", float),
    "path.pretrain_network_g": ("start_from", lambda path: path or ""),
    "train.scheduler.gamma": ("milestone_factor", float),
    "train.total_iter": ("steps", int),
    "train.warmup_iter": ("warmup_steps", lambda steps: max(int(steps), 0)),
    "train.pixel_opt.loss_weight": ("losses.pixel", float),
    "train.remove_pyramid_loss": ("losses.pyramid_end_step", int),
    "train.perceptual_opt.perceptual_weight": ("losses.perceptual", float),
    "train.perceptual_opt.style_weight": ("losses.style", float),
    "train.gan_opt.loss_weight": ("losses.adversarial", float),
    "train.r1_reg_weight": ("losses.r1", float),
    "train.net_d_reg_every": ("losses.r1_every_steps", int),
    "train.net_d_init_iters": ("discriminators.warmup_steps", int),
    "val.val_freq": ("validate_every_steps", int),
    "logger.print_freq": ("log_every_steps", int),
    "logger.save_checkpoint_freq": ("checkpoint_every_steps", int),
}

# Key -> our key, of weights that upstream multiplies by its L1 loss's.
TIMES_L1 = {
    "train.pyramid_loss_weight": "losses.pyramid",
    "train.comp_style_weight": "losses.component_style",
    "train.identity_weight": "losses.identity",
}

# Key -> the only values that can be had here: what is built in.
FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("GFPGANModel",),
    f"{_TRAIN}.type": ("FFHQDegradationDataset",),
    f"{_TRAIN}.mean": ([0.5, 0.5, 0.5],),
    f"{_TRAIN}.std": ([0.5, 0.5, 0.5],),
    f"{_TRAIN}.eye_enlarge_ratio": (1.4,),
    f"{_TRAIN}.use_shuffle": (True,),
    f"{_NET_G}.type": ("GFPGANv1", "GFPGANBilinear", "GFPGANv1Clean"),
    f"{_NET_G}.resample_kernel": ([1, 3, 3, 1],),
    f"{_NET_G}.lr_mlp": (0.01,),
    f"{_NET_G}.input_is_latent": (True,),
    f"{_NET_G}.different_w": (True,),
    f"{_NET_G}.sft_half": (True,),
    f"{_NET_D}.type": ("StyleGAN2Discriminator",),
    f"{_NET_D}.resample_kernel": ([1, 3, 3, 1],),
    **{f"{name}.type": ("FacialComponentDiscriminator",) for name in COMPONENT_NETWORKS},
    "network_identity.type": ("ResNetArcFace",),
    "network_identity.block": ("IRBlock",),
    "network_identity.layers": ([2, 2, 2, 2],),
    "network_identity.use_se": (False,),
    **{f"path.pretrain_{name}": (None,) for name in (_NET_D, *COMPONENT_NETWORKS)},
    "path.resume_state": (None,),
    **{f"train.optim_{name}.type": ("Adam",) for name in ("g", "d", "component")},
    "train.scheduler.type": ("MultiStepLR",),
    "train.pixel_opt.type": ("L1Loss",),
    "train.pixel_opt.reduction": ("mean",),
    "train.L1_opt.type": ("L1Loss",),
    "train.L1_opt.reduction": ("mean",),
    "train.perceptual_opt.type": ("PerceptualLoss",),
    **{
        f"train.perceptual_opt.layer_weights.{layer}": (weight,)
        for layer, weight in {
            "conv1_2": 0.1,
            "conv2_2": 0.1,
            "conv3_4": 1,
            "conv4_4": 1,
            "conv5_4": 1,
        }.items()
    },
    "train.perceptual_opt.use_input_norm": (True,),
    "train.perceptual_opt.range_norm": (True,),
    "train.perceptual_opt.criterion": ("l1",),
    "train.gan_opt.type": ("GANLoss",),
    "train.gan_opt.gan_type": ("wgan_softplus",),
    "train.gan_component_opt.type": ("GANLoss",),
    "train.gan_component_opt.gan_type": ("vanilla",),
    "train.gan_component_opt.real_label_val": (1.0,),
    "train.gan_component_opt.fake_label_val": (0.0,),
    "train.net_d_iters": (1,),
}

# Key, or the beginning of several -> why it has no meaning here.
WITHOUT_MEANING: dict[str, str] = {
    f"{_TRAIN}.name": "a label",
    f"{_TRAIN}.io_backend": "a folder and an LMDB are told apart by what they are",
    f"{_TRAIN}.blur_kernel_size": "a kernel is as large as its sigma asks for",
    f"{_TRAIN}.gt_gray": "a gray input always has a gray ground truth here",
    f"{_TRAIN}.dataset_enlarge_ratio": "training counts steps, not rounds through the faces",
    f"{_TRAIN}.prefetch_mode": "workers read ahead",
    "datasets.val.name": "a label",
    "datasets.val.type": "validation degrades the faces of `validation_faces` itself",
    "datasets.val.dataroot_lq": "validation degrades the faces of `validation_faces` itself",
    "datasets.val.io_backend": "a folder and an LMDB are told apart by what they are",
    "datasets.val.mean": "built in",
    "datasets.val.std": "built in",
    "datasets.val.scale": "a face keeps its size",
    "path.param_key_g": "averaged weights are taken where a file has them",
    "path.strict_load_g": "weights are always read strictly",
    "path.ignore_resume_networks": "ArcFace isn't part of a checkpoint",
    "val.save_img": "the log has figures; scripts.evaluate makes pictures",
    "val.metrics": "PSNR and others are always measured",
    "logger.wandb": "the log is log.jsonl, and TensorBoard's where it is asked for",
    "dist_params": "accelerate launch starts several processes",
    "find_unused_parameters": "not needed",
}

# Upstream's kinds of blur -> whether the sigmas differ, and our share that they add to.
BLURS = {
    "iso": (False, None),
    "aniso": (True, None),
    "generalized_iso": (False, "degradation.generalized_share"),
    "generalized_aniso": (True, "degradation.generalized_share"),
    "plateau_iso": (False, "degradation.plateau_share"),
    "plateau_aniso": (True, "degradation.plateau_share"),
}

OFFICIAL_GPUS = 4

EMA_HALF_LIFE_STEPS = 10_000 / 32
"""Upstream's decay of a step is 0.5 ** (32 / 10,000), whatever the batch."""
