"""One step of the generator: forward, the named losses, their weighted sum."""

from __future__ import annotations

from torch import Tensor

from gfpgan_core.networks.gfpgan import GFPGAN
from train.config import LossConfig
from train.dataset import Sample
from train.losses import gradient_loss, pixel_loss, pyramid_loss, ssim_loss


def generator_losses(generator: GFPGAN, batch: Sample, weights: LossConfig) -> dict[str, Tensor]:
    """Each active term, unweighted, and `total`, their weighted sum, to be minimised."""
    image, rgbs = generator(batch.lq, pyramid=weights.pyramid > 0, random_noise=True)
    image = image.float()
    losses = {}
    if weights.pixel:
        losses["pixel"] = pixel_loss(image, batch.gt)
    if weights.pyramid:
        losses["pyramid"] = pyramid_loss([rgb.float() for rgb in rgbs], batch.gt)
    if weights.gradient:
        losses["gradient"] = gradient_loss(image, batch.gt)
    if weights.ssim:
        losses["ssim"] = ssim_loss(image, batch.gt)
    total = batch.gt.new_zeros(())
    for name, loss in losses.items():
        total = total + getattr(weights, name) * loss
    return losses | {"total": total}
