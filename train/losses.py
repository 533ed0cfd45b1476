"""The terms of the objective, one function each; all return a scalar, averaged over pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Features = Sequence[tuple[float, Tensor]]

_DETAIL_WINDOW_SIGMA_PX = 3.0
_GRAY_LEVEL = 1 / 127.5  # in -1..1; finer detail isn't seen, and a root at 0 has no gradient


def pixel_loss(image: Tensor, gt: Tensor) -> Tensor:
    """Return the mean absolute difference (arXiv 2101.04061, equation 6, first term)."""
    return F.l1_loss(image, gt)


def pyramid_loss(rgbs: Sequence[Tensor], gt: Tensor) -> Tensor:
    """Sum the L1 of the U-Net's images to the ground truth at their size (section 3.2).

    The ground truth is reduced by area averaging: upstream's bilinear reduction aliases.
    """
    total = gt.new_zeros(())
    for rgb in rgbs:
        total = total + F.l1_loss(rgb, F.interpolate(gt, size=rgb.shape[-2:], mode="area"))
    return total


def multiscale_loss(image: Tensor, gt: Tensor) -> Tensor:
    """Return the mean of the L1 at 1/2, 1/4 and 1/8 of the size, reduced by area averaging.

    Not in the paper. The gradient of a plain L1 is a sign: where new texture differs from the
    truth's, the signs are those of the texture, and what is wrong on a larger scale (shape, color)
    is hardly corrected. Here texture averages out first.
    """
    total = gt.new_zeros(())
    for factor in (2, 4, 8):
        total = total + F.l1_loss(F.avg_pool2d(image, factor), F.avg_pool2d(gt, factor))
    return total / 3


def ssim_loss(image: Tensor, gt: Tensor) -> Tensor:
    """Return 1 - SSIM of images in -1..1: an 11 px Gaussian window of sigma 1.5, no borders.

    Source: Wang et al. 2004 (the index); Zhao et al., arXiv 1511.08861 (as a loss beside L1).
    """
    taps = _gaussian_taps(1.5, 5, gt)
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
    """Return the mean absolute difference of the horizontal and vertical gradients.

    Not in the paper. It weighs edges, which a plain L1 leaves soft when there is no perceptual or
    adversarial term beside it.
    """
    total = gt.new_zeros(())
    for dim in (-1, -2):
        total = total + F.l1_loss(torch.diff(image, dim=dim), torch.diff(gt, dim=dim))
    return total


def detail_loss(image: Tensor, gt: Tensor) -> Tensor:
    """Compare the local strength of fine detail, the Laplacian's RMS: the mean absolute difference.

    Asks for as much detail as the ground truth has around each pixel, wherever exactly it lies: an
    image that minimizes the other pixel terms has a quarter of it. Laplacian of the luma, RMS over
    a Gaussian window of sigma 3 px. After the gradient variance loss (arXiv 2202.00997), which
    compares variances of gradients in square patches.
    """
    luma = torch.tensor([0.299, 0.587, 0.114], device=gt.device, dtype=gt.dtype)
    edges = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], device=gt.device, dtype=gt.dtype)
    taps = _gaussian_taps(_DETAIL_WINDOW_SIGMA_PX, 9, gt)
    with torch.autocast(gt.device.type, enabled=False):  # squares are too fine for bfloat16
        planes = torch.stack([image, gt]).flatten(0, 1)
        planes = torch.einsum("c,nchw->nhw", luma, planes)[:, None]
        energy = F.conv2d(planes, edges[None, None]).square()
        for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
            energy = F.conv2d(energy, taps.reshape(shape))
        ours, truth = (energy + _GRAY_LEVEL**2).sqrt().chunk(2)
    return F.l1_loss(ours, truth)


def _gaussian_taps(sigma_px: float, radius_px: int, like: Tensor) -> Tensor:
    """Return (2 * radius + 1,) of sum 1."""
    offsets = torch.arange(-radius_px, radius_px + 1, device=like.device, dtype=like.dtype)
    taps = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    return taps / taps.sum()


def perceptual_loss(features: Features, gt_features: Features) -> Tensor:
    """Return the weighted L1 between feature maps (arXiv 2101.04061, equation 6, second term)."""
    return _weighted(features, gt_features, F.l1_loss)


def style_loss(features: Features, gt_features: Features) -> Tensor:
    """Return the weighted L1 between the Gram matrices of feature maps (arXiv 1603.08155)."""
    return _weighted(features, gt_features, gram_loss)


def _weighted(
    features: Features, gt_features: Features, compare: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    total = features[0][1].new_zeros(())
    for (weight, feat), (_, gt_feat) in zip(features, gt_features, strict=True):
        total = total + weight * compare(feat, gt_feat)
    return total


def gram(feat: Tensor) -> Tensor:
    """Return (N, C, C): products of channels, over C * H * W."""
    flat = feat.flatten(2)
    return flat @ flat.transpose(1, 2) / (feat.shape[1] * flat.shape[2])


def gram_loss(feat: Tensor, gt_feat: Tensor) -> Tensor:
    """Return the mean absolute difference of the Gram matrices."""
    return F.l1_loss(gram(feat), gram(gt_feat))


def generator_adversarial_loss(fake_logits: Tensor) -> Tensor:
    """Return the non-saturating softplus(-D(fake)) (arXiv 1406.2661, section 3; GFPGAN's eq. 7)."""
    return F.softplus(-fake_logits).mean()


def discriminator_adversarial_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return the logistic softplus(D(fake)) + softplus(-D(real)), each averaged."""
    return F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()


def r1_penalty(real_logits: Tensor, real: Tensor) -> Tensor:
    """Return the mean over the batch of the squared norm of dD/d(real) (arXiv 1801.04406).

    `real` must require a gradient, and the logits be computed from it.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(image: Tensor, style_codes: Tensor, noise: Tensor) -> Tensor:
    """Return (N,): how far the image moves with the style codes (arXiv 1912.04958, section 3.2).

    Args:
        image: (N, 3, H, W), computed from `style_codes`.
        style_codes: (N, L, S), requiring a gradient.
        noise: standard normal values of the image's shape, the direction looked at.
    """
    scaled = noise / math.sqrt(image.shape[2] * image.shape[3])
    (gradient,) = torch.autograd.grad((image * scaled).sum(), style_codes, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


# Upstream's weights of the Gram matrices at 1/2 and 1/4 of a component's size.
_COMPONENT_STYLE_WEIGHTS = (0.5, 1.0)


def component_style_loss(features: Sequence[Tensor], gt_features: Sequence[Tensor]) -> Tensor:
    """Return the L1 of the Gram matrices of a component discriminator's two features (section 3.4).

    Half of the first and the whole of the second, as in gfpgan 1.3.8's model.
    """
    total = features[0].new_zeros(())
    pairs = zip(_COMPONENT_STYLE_WEIGHTS, features, gt_features, strict=True)
    for weight, feat, gt_feat in pairs:
        total = total + weight * gram_loss(feat, gt_feat)
    return total


def identity_loss(embedding: Tensor, gt_embedding: Tensor) -> Tensor:
    """Return the mean absolute difference of embeddings of persons (section 3.4)."""
    return F.l1_loss(embedding, gt_embedding)
