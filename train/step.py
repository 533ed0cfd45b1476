"""The losses of one batch: the generator's, and those of the discriminators that judge it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from train.components import crop_components
from train.config import LossConfig
from train.dataset import Sample
from train.discriminators import ComponentDiscriminator, StyleGAN2Discriminator
from train.features import PerceptualFeatures
from train.losses import (
    component_style_loss,
    detail_loss,
    discriminator_adversarial_loss,
    generator_adversarial_loss,
    gradient_loss,
    identity_loss,
    perceptual_loss,
    pixel_loss,
    pyramid_loss,
    r1_penalty,
    ssim_loss,
    style_loss,
)

Autocast = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class LossNetworks:
    """What looks at the generator's images; absent where no term needs it."""

    discriminator: StyleGAN2Discriminator | None = None
    components: dict[str, ComponentDiscriminator] | None = None
    perceptual: PerceptualFeatures | None = None
    identity: Callable[[Tensor], Tensor] | None = None

    def learning(self) -> dict[str, nn.Module]:
        """Those that train, by name."""
        found: dict[str, nn.Module] = {}
        if self.discriminator is not None:
            found["discriminator"] = self.discriminator
        return found | dict(self.components or {})

    def set_learning(self, on: bool) -> None:
        """In the generator's step nothing but the generator gets gradients."""
        for network in self.learning().values():
            network.requires_grad_(on)


def generator_losses(
    image: Tensor,
    rgbs: list[Tensor],
    batch: Sample,
    loss_networks: LossNetworks,
    weights: LossConfig,
    autocast: Autocast,
) -> dict[str, Tensor]:
    """Each active term, unweighted, and `total`, their weighted sum, to be minimised.

    Networks run in the mixed precision that `autocast` sets, losses in float32.

    Args:
        image: (N, 3, size, size), the generator's float32 output for `batch.lq`.
        rgbs: the U-Net's images; empty: no pyramid term.
    """
    gt = batch.gt
    losses = {}
    if weights.pixel:
        losses["pixel"] = pixel_loss(image, gt)
    if rgbs:
        losses["pyramid"] = pyramid_loss([rgb.float() for rgb in rgbs], gt)
    if weights.gradient:
        losses["gradient"] = gradient_loss(image, gt)
    if weights.ssim:
        losses["ssim"] = ssim_loss(image, gt)
    if weights.detail:
        losses["detail"] = detail_loss(image, gt)
    if loss_networks.perceptual is not None:
        with autocast():
            features = loss_networks.perceptual(image)
            with torch.no_grad():
                gt_features = loss_networks.perceptual(gt)
        features = [(weight, feat.float()) for weight, feat in features]
        gt_features = [(weight, feat.float()) for weight, feat in gt_features]
        if weights.perceptual:
            losses["perceptual"] = perceptual_loss(features, gt_features)
        if weights.style:
            losses["style"] = style_loss(features, gt_features)
    if loss_networks.discriminator is not None:
        with autocast():
            logits = loss_networks.discriminator(image)
        losses["adversarial"] = generator_adversarial_loss(logits.float())
    if loss_networks.components is not None:
        losses |= _component_losses(image, batch, loss_networks.components, weights, autocast)
    if loss_networks.identity is not None:
        with torch.no_grad():
            gt_embedding = loss_networks.identity(gt)
        losses["identity"] = identity_loss(loss_networks.identity(image), gt_embedding)
    total = gt.new_zeros(())
    for name, loss in losses.items():
        total = total + getattr(weights, name) * loss
    return losses | {"total": total}


def _component_losses(
    image: Tensor,
    batch: Sample,
    components: dict[str, ComponentDiscriminator],
    weights: LossConfig,
    autocast: Autocast,
) -> dict[str, Tensor]:
    """Sums over the components (equation 8 of the paper)."""
    fakes = crop_components(image, batch.boxes)
    reals = crop_components(batch.gt, batch.boxes)
    adversarial = style = image.new_zeros(())
    for name, discriminator in components.items():
        with autocast():
            logits, features = discriminator(fakes[name])
        adversarial = adversarial + generator_adversarial_loss(logits.float())
        if weights.component_style:
            with torch.no_grad(), autocast():
                _, gt_features = discriminator(reals[name])
            style = style + component_style_loss(
                [feat.float() for feat in features], [feat.float() for feat in gt_features]
            )
    losses = {"component_adversarial": adversarial}
    return losses | ({"component_style": style} if weights.component_style else {})


def discriminator_losses(
    fake: Tensor, batch: Sample, loss_networks: LossNetworks, autocast: Autocast
) -> dict[str, Tensor]:
    """A logistic loss for each discriminator; `fake` is the generator's detached image."""
    losses = {}
    if loss_networks.discriminator is not None:
        with autocast():
            fake_logits = loss_networks.discriminator(fake)
            real_logits = loss_networks.discriminator(batch.gt)
        losses["discriminator"] = discriminator_adversarial_loss(
            real_logits.float(), fake_logits.float()
        )
    if loss_networks.components is not None:
        fakes = crop_components(fake, batch.boxes)
        reals = crop_components(batch.gt, batch.boxes)
        for name, discriminator in loss_networks.components.items():
            with autocast():
                fake_logits, _ = discriminator(fakes[name])
                real_logits, _ = discriminator(reals[name])
            losses[name] = discriminator_adversarial_loss(real_logits.float(), fake_logits.float())
    return losses


def gradient_penalty(discriminator: StyleGAN2Discriminator, gt: Tensor) -> Tensor:
    """R1 of real images, in float32: a second derivative is too fine for bf16."""
    real = gt.detach().requires_grad_(True)
    return r1_penalty(discriminator(real), real)
