"""The terms of the objective, one function each; all return a scalar, averaged over pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_loss(image: Tensor, gt: Tensor) -> Tensor:
    """Mean absolute difference (arXiv 2101.04061, equation 6, first term)."""
    return F.l1_loss(image, gt)


def pyramid_loss(rgbs: Sequence[Tensor], gt: Tensor) -> Tensor:
    """Sum over the U-Net's images of the L1 to the ground truth at their size (section 3.2).

    The ground truth is reduced by area averaging: upstream's bilinear reduction aliases.
    """
    total = gt.new_zeros(())
    for rgb in rgbs:
        total = total + F.l1_loss(rgb, F.interpolate(gt, size=rgb.shape[-2:], mode="area"))
    return total


def gradient_loss(image: Tensor, gt: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical gradients.

    Not in the paper. It weighs edges, which a plain L1 leaves soft when there is no perceptual or
    adversarial term beside it.
    """
    total = gt.new_zeros(())
    for dim in (-1, -2):
        total = total + F.l1_loss(torch.diff(image, dim=dim), torch.diff(gt, dim=dim))
    return total
