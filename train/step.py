"""The losses of one batch: the generator's, and those of the discriminators that judge it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
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
    multiscale_loss,
    perceptual_loss,
    pixel_loss,
    pyramid_loss,
    r1_penalty,
    ssim_loss,
    style_loss,
)
from train.projected import ProjectedDiscriminator

Autocast = Callable[[], AbstractContextManager[None]]

ADVERSARIAL = (
    "adversarial",
    "projected_adversarial",
    "patch_adversarial",
    "component_adversarial",
)
"""The terms by which discriminators push the generator, as in `LossConfig`."""

# Border of a face that crops leave out: it is background, or a corner of the rotated cut-out.
_MARGIN = (20 / 512, 60 / 512)  # above and below, left and right, of the side


@dataclass(frozen=True)
class Crop:
    """A square part of a face, in pixels."""

    top: int
    left: int
    side: int

    def of(self, image: Tensor) -> Tensor:
        """Return that part (N, C, side, side) of images (N, C, H, W)."""
        bottom, right = self.top + self.side, self.left + self.side
        return image[:, :, self.top : bottom, self.left : right]


def random_crop(face_size_px: int, side_px: int, rng: np.random.Generator) -> Crop:
    """Return a place for a crop of this side; 0, or more than there is room for: the whole face."""
    if not 0 < side_px < face_size_px:
        return Crop(0, 0, face_size_px)
    room = face_size_px - side_px
    top, left = (
        int(rng.integers(margin, room - margin, endpoint=True))
        for margin in (min(round(share * face_size_px), room // 2) for share in _MARGIN)
    )
    return Crop(top, left, side_px)


@dataclass(frozen=True)
class LossNetworks:
    """The discriminators and feature networks of the losses; None where no term needs one."""

    discriminator: StyleGAN2Discriminator | None = None
    projected: ProjectedDiscriminator | None = None
    patch: ComponentDiscriminator | None = None
    components: dict[str, ComponentDiscriminator] | None = None
    perceptual: PerceptualFeatures | None = None
    identity: Callable[[Tensor], Tensor] | None = None

    def learning(self) -> dict[str, nn.Module]:
        """Return the networks that train, by name."""
        found: dict[str, nn.Module] = {}
        if self.discriminator is not None:
            found["discriminator"] = self.discriminator
        if self.projected is not None:
            found["projected"] = self.projected.heads  # the features are frozen
        if self.patch is not None:
            found["patch"] = self.patch
        return found | dict(self.components or {})

    def set_learning(self, on: bool) -> None:
        """Switch the gradients of the networks that train: off in the generator's step."""
        for network in self.learning().values():
            network.requires_grad_(on)

    def face_logits(self, image: Tensor, crop: Crop, autocast: Autocast) -> dict[str, list[Tensor]]:
        """Return the float32 logits of face and crop: lists of maps by the discriminator's name."""
        found: dict[str, list[Tensor]] = {}
        with autocast():
            if self.discriminator is not None:
                found["discriminator"] = [self.discriminator(image)]
            if self.projected is not None:
                found["projected"] = self.projected(crop.of(image))
            if self.patch is not None:
                found["patch"] = [self.patch(crop.of(image))[0]]
        return {name: [logits.float() for logits in maps] for name, maps in found.items()}

    def component_outputs(
        self, image: Tensor, boxes: Tensor, autocast: Autocast
    ) -> dict[str, tuple[Tensor, list[Tensor]]]:
        """Return the float32 logits and the features of each component, by its name."""
        if self.components is None:
            return {}
        crops = crop_components(image, boxes)
        with autocast():
            found = {name: network(crops[name]) for name, network in self.components.items()}
        return {
            name: (logits.float(), [feat.float() for feat in features])
            for name, (logits, features) in found.items()
        }

    def all_logits(
        self, image: Tensor, boxes: Tensor, crop: Crop, autocast: Autocast
    ) -> dict[str, list[Tensor]]:
        """Return the logits of every discriminator: lists of maps by its name."""
        outputs = self.component_outputs(image, boxes, autocast)
        components = {name: [logits] for name, (logits, _) in outputs.items()}
        return self.face_logits(image, crop, autocast) | components


def generator_losses(
    image: Tensor,
    rgbs: list[Tensor],
    batch: Sample,
    networks: LossNetworks,
    weights: LossConfig,
    autocast: Autocast,
    crop: Crop,
) -> dict[str, Tensor]:
    """Return each active term, unweighted, to be minimized.

    Networks run in the mixed precision that `autocast` sets, losses in float32.

    Args:
        image: (N, 3, size, size), the generator's float32 output for `batch.lq`.
        rgbs: the U-Net's images; empty: no pyramid term.
        crop: what the projected and the patch discriminator see.
    """
    gt = batch.gt
    losses = {}
    if weights.pixel:
        losses["pixel"] = pixel_loss(image, gt)
    if rgbs:
        losses["pyramid"] = pyramid_loss([rgb.float() for rgb in rgbs], gt)
    if weights.multiscale:
        losses["multiscale"] = multiscale_loss(image, gt)
    if weights.gradient:
        losses["gradient"] = gradient_loss(image, gt)
    if weights.ssim:
        losses["ssim"] = ssim_loss(image, gt)
    if weights.detail:
        losses["detail"] = detail_loss(image, gt)
    if networks.perceptual is not None:
        with autocast():
            features = networks.perceptual(image)
            with torch.no_grad():
                gt_features = networks.perceptual(gt)
        features = [(weight, feat.float()) for weight, feat in features]
        gt_features = [(weight, feat.float()) for weight, feat in gt_features]
        if weights.perceptual:
            losses["perceptual"] = perceptual_loss(features, gt_features)
        if weights.style:
            losses["style"] = style_loss(features, gt_features)
    for name, maps in networks.face_logits(image, crop, autocast).items():
        group = "adversarial" if name == "discriminator" else f"{name}_adversarial"
        losses[group] = _sum(generator_adversarial_loss(logits) for logits in maps)
    if networks.components is not None:
        losses |= _component_losses(image, batch, networks, weights, autocast)
    if networks.identity is not None:
        with torch.no_grad():
            gt_embedding = networks.identity(gt)
        losses["identity"] = identity_loss(networks.identity(image), gt_embedding)
    return losses


def _component_losses(
    image: Tensor,
    batch: Sample,
    networks: LossNetworks,
    weights: LossConfig,
    autocast: Autocast,
) -> dict[str, Tensor]:
    """Return the terms of the components, summed over them (equation 8 of the paper)."""
    fakes = networks.component_outputs(image, batch.boxes, autocast)
    adversarial = _sum(generator_adversarial_loss(logits) for logits, _ in fakes.values())
    losses = {"component_adversarial": adversarial}
    if weights.component_style:
        with torch.no_grad():
            reals = networks.component_outputs(batch.gt, batch.boxes, autocast)
        losses["component_style"] = _sum(
            component_style_loss(fakes[name][1], reals[name][1]) for name in fakes
        )
    return losses


def discriminator_losses(
    fake: Tensor,
    batch: Sample,
    networks: LossNetworks,
    autocast: Autocast,
    crop: Crop,
) -> dict[str, Tensor]:
    """Return a logistic loss for each discriminator, summed over its maps of logits.

    `fake` is the generator's detached image, `crop` what it was judged by in the generator's step.
    """
    fakes, reals = (
        networks.all_logits(image, batch.boxes, crop, autocast) for image in (fake, batch.gt)
    )
    return {
        name: _sum(map(discriminator_adversarial_loss, reals[name], fakes[name])) for name in fakes
    }


def _sum(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum()


def gradient_penalty(discriminator: StyleGAN2Discriminator, gt: Tensor) -> Tensor:
    """Return R1 of real images, in float32: a second derivative is too fine for bf16."""
    real = gt.detach().requires_grad_(True)
    return r1_penalty(discriminator(real), real)
