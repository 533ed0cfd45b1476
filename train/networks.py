"""The untrained networks that a configuration asks for."""

from __future__ import annotations

import torch
from torch import nn

from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder
from gfpgan_core.weights.load import parameter_count
from train import components
from train.config import TrainConfig
from train.discriminators import ComponentDiscriminator, StyleGAN2Discriminator


def face_discriminator(config: TrainConfig) -> StyleGAN2Discriminator:
    """Build the discriminator of whole faces."""
    settings = config.discriminators
    return StyleGAN2Discriminator(
        config.generator.face_size_px,
        settings.channel_multiplier,
        settings.narrow,
        settings.stddev_group,
    )


def patch_discriminator(config: TrainConfig) -> ComponentDiscriminator:
    """Build the discriminator of small patches: a component's that sees a crop of the face."""
    settings = config.discriminators
    return ComponentDiscriminator(settings.component_narrow, settings.high_pass_gain)


def component_discriminators(config: TrainConfig) -> dict[str, ComponentDiscriminator]:
    """Build the discriminator of each component, by name."""
    return {name: patch_discriminator(config) for name in components.NAMES}


def parameter_counts(config: TrainConfig) -> dict[str, int]:
    """Return the learnable values of each network of a run, by name; nothing is allocated.

    But for the projected discriminator, whose size follows from the features that it loads.
    """
    is_prior = config.objective == "prior"
    with torch.device("meta"):
        generator = StyleGAN2Decoder if is_prior else GFPGAN
        networks: dict[str, nn.Module] = {"generator": generator(config.generator)}
        if is_prior or config.losses.adversarial:
            networks["discriminator"] = face_discriminator(config)
        if not is_prior and config.losses.patch_adversarial:
            networks["patch"] = patch_discriminator(config)
        if not is_prior and config.losses.component_adversarial:
            networks |= component_discriminators(config)
    return {name: parameter_count(network) for name, network in networks.items()}
