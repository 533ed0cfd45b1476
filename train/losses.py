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


def ssim_loss(image: Tensor, gt: Tensor) -> Tensor:
    """1 - SSIM of images in -1..1, over an 11 px Gaussian window of sigma 1.5, without borders.

    Source: Wang et al. 2004 (the index); Zhao et al., arXiv 1511.08861 (as a loss beside L1).
    """
    offsets = torch.arange(-5, 6, device=gt.device, dtype=gt.dtype)
    taps = torch.exp(-0.5 * (offsets / 1.5) ** 2)
    taps = taps / taps.sum()
    image, gt = (image + 1) / 2, (gt + 1) / 2  # the index is no difference: black must be 0
    planes = torch.cat([image, gt, image * image, gt * gt, image * gt], dim=1)
    channels = planes.shape[1]
    # Not in bfloat16, even where the network runs in it: variances are differences of squares.
    with torch.autocast(gt.device.type, enabled=False):
        for shape in ((channels, 1, 11, 1), (channels, 1, 1, 11)):
            kernel = taps.reshape(1, 1, *shape[2:]).expand(shape)
            planes = F.conv2d(planes, kernel, groups=channels)
    mean_i, mean_g, square_i, square_g, product = planes.chunk(5, dim=1)
    c1, c2 = 0.01**2, 0.03**2
    covariance = product - mean_i * mean_g
    variances = square_i - mean_i**2 + square_g - mean_g**2
    luminance = (2 * mean_i * mean_g + c1) / (mean_i**2 + mean_g**2 + c1)
    return 1 - (luminance * (2 * covariance + c2) / (variances + c2)).mean()


def gradient_loss(image: Tensor, gt: Tensor) -> Tensor:
    """Mean absolute difference of the horizontal and vertical gradients.

    Not in the paper. It weighs edges, which a plain L1 leaves soft when there is no perceptual or
    adversarial term beside it.
    """
    total = gt.new_zeros(())
    for dim in (-1, -2):
        total = total + F.l1_loss(torch.diff(image, dim=dim), torch.diff(gt, dim=dim))
    return total
