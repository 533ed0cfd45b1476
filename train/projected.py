"""A discriminator over a frozen network's features.

Source: Projected GANs (arXiv 2111.01007), without its random mixing of channels and scales;
spectral normalization (arXiv 1802.05957) as there. It learns within hundreds of steps: what makes
a photo is in the features already.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from train.features import PerceptualFeatures

_EPS = 1e-3  # of a feature map's deviation: flat maps stay small


class ProjectedDiscriminator(nn.Module):
    """Judge images (N, 3, H, W) in -1..1 by a map of logits for each scale of the features."""

    def __init__(self, features: PerceptualFeatures, width: int = 64) -> None:
        super().__init__()
        self.features = features
        self.heads = nn.ModuleList(_Head(c, width) for c in channels_of(features))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = (feat for _, feat in self.features(image))
        return [head(normalized(feat)) for head, feat in zip(self.heads, maps, strict=True)]


class _Head(nn.Module):
    """Three 3x3 convolutions, the first two of spectral norm 1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(channels, width, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(width, width, 3, padding=1))
        self.conv3 = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, feat: Tensor) -> Tensor:
        feat = F.leaky_relu(_convolve(self.conv1, feat), 0.2)
        return self.conv3(F.leaky_relu(_convolve(self.conv2, feat), 0.2))


def _convolve(conv: nn.Module, feat: Tensor) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    with torch.autocast(feat.device.type, enabled=False):
        weight = conv.weight  # reading it runs a power iteration, which bfloat16 is too coarse for
    return F.conv2d(feat, weight, conv.bias, padding=1)


def normalized(feat: Tensor) -> Tensor:
    """Divide (N, C, H, W) by each sample's own deviation, which gets no gradient."""
    deviation = feat.detach().float().std(dim=(1, 2, 3), keepdim=True)
    return feat / (deviation + _EPS).to(feat.dtype)


def channels_of(features: PerceptualFeatures) -> list[int]:
    """Return the channels of each feature map."""
    with torch.no_grad():
        image = torch.zeros(1, 3, 64, 64, device=features.mean.device)
        return [feat.shape[1] for _, feat in features(image)]
