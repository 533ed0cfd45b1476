"""ArcFace's ResNet-18 on gray faces: an embedding of the person, for the identity loss.

Source: ArcFace (arXiv 1801.07698); attribute names are those of `arcface_resnet18.pth`, published
with GFPGAN v0.1.0.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE_PX = 128


class ImprovedResidualBlock(nn.Module):
    """Two convolutions, normalized before and after each, beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        y = self.bn2(self.conv2(y))
        return self.prelu(y + (x if self.downsample is None else self.downsample(x)))


class ArcFace(nn.Module):
    """Embed gray crops (N, 1, 128, 128) in -1..1 as (N, 512). Use it in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU()
        self.layer1 = _layer(64, 64, 1)
        self.layer2 = _layer(64, 128, 2)
        self.layer3 = _layer(128, 256, 2)
        self.layer4 = _layer(256, 512, 2)
        self.bn4 = nn.BatchNorm2d(512)
        self.dropout = nn.Dropout()
        self.fc5 = nn.Linear(512 * 8 * 8, 512)
        self.bn5 = nn.BatchNorm1d(512)

    def forward(self, gray: Tensor) -> Tensor:
        x = F.max_pool2d(self.prelu(self.bn1(self.conv1(gray))), 2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.bn5(self.fc5(self.dropout(self.bn4(x)).flatten(1)))


def _layer(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        ImprovedResidualBlock(in_channels, out_channels, stride),
        ImprovedResidualBlock(out_channels, out_channels, 1),
    )
