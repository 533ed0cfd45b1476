"""The GFPGAN generator: a U-Net that removes degradations and steers a StyleGAN2 decoder.

Source: arXiv 2101.04061, figure 2. Attribute names are those of the clean releases' state dicts.
One network serves the clean releases and the original v1: `GeneratorConfig.resampling` is the only
difference left once v1's equalized learning rates are folded into its weights (see `convert`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.networks.resample import BilinearConv2d, LeakyConv2d, bilinear, fir_blur
from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder


class DownBlock(nn.Module):
    """Residual block that halves the resolution."""

    def __init__(self, in_channels: int, out_channels: int, resampling: str) -> None:
        super().__init__()
        self.resampling = resampling
        self.conv1 = LeakyConv2d(in_channels, in_channels)
        # StyleGAN2's filter pads already, and its convolutions take every second pixel.
        stride, padding = (1, 1) if resampling == "bilinear" else (2, 0)
        self.conv2 = LeakyConv2d(in_channels, out_channels, stride=stride, padding=padding)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, H/2, W/2) for (N, C_in, H, W)."""
        y = self.conv1(x)
        if self.resampling == "bilinear":
            return self.skip(bilinear(x, 0.5)).add_(self.conv2(bilinear(y, 0.5)))
        return self.conv2(fir_blur(y, 2)) + self.skip(fir_blur(x, 1))


class UpBlock(nn.Module):
    """Residual block that doubles the resolution, bilinearly in every release."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = LeakyConv2d(in_channels, in_channels)
        self.conv2 = BilinearConv2d(in_channels, out_channels)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C_out, 2H, 2W) for (N, C_in, H, W)."""
        y = self.conv2(self.conv1(x))
        # A 1x1 convolution commutes with interpolation: before it, it costs a quarter.
        return bilinear(self.skip(x), 2).add_(y)


class GFPGAN(nn.Module):
    """Restores aligned faces.

    The degraded crop goes down a U-Net to a style code for each layer of a StyleGAN2 decoder, and
    up again to features that scale and shift the decoder's own (SFT), level by level.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        levels_px = config.levels_px
        channels = [config.unet_channels(level) for level in levels_px]

        self.conv_body_first = nn.Conv2d(3, channels[-1], 1)
        self.conv_body_down = nn.ModuleList(
            DownBlock(channels[i], channels[i - 1], config.resampling)
            for i in range(len(channels) - 1, 0, -1)
        )
        self.final_conv = nn.Conv2d(channels[0], channels[0], 3, padding=1)
        self.conv_body_up = nn.ModuleList(
            UpBlock(channels[i - 1], channels[i]) for i in range(1, len(channels))
        )
        self.toRGB = nn.ModuleList(nn.Conv2d(c, 3, 1) for c in channels[1:])
        self.final_linear = nn.Linear(channels[0] * 16, config.style_count * config.style_features)
        self.stylegan_decoder = StyleGAN2Decoder(config)
        self.condition_scale = nn.ModuleList()
        self.condition_shift = nn.ModuleList()
        for level_px, width in zip(levels_px[1:], channels[1:], strict=True):
            sft_channels = config.decoder_channels(level_px) // 2
            self.condition_scale.append(_condition(width, sft_channels, bias=1.0))
            self.condition_shift.append(_condition(width, sft_channels, bias=0.0))
        self._init_unet()

    def forward(self, lq: Tensor, *, noise_seeds: Tensor | None = None) -> Tensor:
        """Return the restored crops (N, 3, size, size), about -1..1, unclipped.

        Args:
            lq: (N, 3, size, size) RGB in -1..1.
            noise_seeds: (N,) integers: draw the decoder's noise anew from them (training);
                without them the result is fixed.
        """
        return self._restore(lq, noise_seeds, None)

    def forward_with_pyramid(
        self, lq: Tensor, *, noise_seeds: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return what `forward` does, and the U-Net's own images, one a level from 8 px up.

        The pyramid restoration loss compares them (training).
        """
        pyramid: list[Tensor] = []
        return self._restore(lq, noise_seeds, pyramid), pyramid

    def _restore(
        self, lq: Tensor, noise_seeds: Tensor | None, pyramid: list[Tensor] | None
    ) -> Tensor:
        """Return the restored crops; append the U-Net's images to `pyramid` if there is one."""
        feat = F.leaky_relu(self.conv_body_first(lq), 0.2)
        skips = []
        for down in self.conv_body_down:
            feat = down(feat)
            skips.append(feat)
        feat = F.leaky_relu(self.final_conv(feat), 0.2)

        style_codes = self.final_linear(feat.flatten(1))
        style_codes = style_codes.unflatten(1, (-1, self.config.style_features))

        def condition(level: int) -> tuple[Tensor, Tensor]:
            nonlocal feat
            feat = self.conv_body_up[level](feat + skips.pop())
            if pyramid is not None:
                pyramid.append(self.toRGB[level](feat))
            return self.condition_scale[level](feat), self.condition_shift[level](feat)

        image = self.stylegan_decoder(style_codes, condition, noise_seeds=noise_seeds)
        return image + lq if self.config.residual else image

    def _init_unet(self) -> None:
        """Initialize to train from scratch: unit variance through the U-Net, SFT at rest.

        Every sum of two branches (residual, U-Net skip) would double the variance, and SFT
        multiplies by it at each level. StyleGAN2 divides sums by sqrt(2); here the weights do.
        """
        for module in self.modules():
            if isinstance(module, DownBlock | UpBlock):
                after_sum = isinstance(module, UpBlock)  # its input is the sum with a U-Net skip
                gain = 0.5 if after_sum else 0.5**0.5
                _he_init(module.conv1, 0.5**0.5 if after_sum else 1.0)
                _he_init(module.conv2, 0.5**0.5)
                nn.init.kaiming_normal_(module.skip.weight, nonlinearity="linear")
                with torch.no_grad():
                    module.skip.weight.mul_(gain)
        for conv in (self.conv_body_first, self.final_conv):
            _he_init(conv, 1.0)
        for to_rgb in self.toRGB:
            _he_init(to_rgb, 0.1)
        nn.init.kaiming_normal_(self.final_linear.weight, nonlinearity="linear")
        nn.init.zeros_(self.final_linear.bias)
        if self.config.residual:  # the first output is nearly the input
            with torch.no_grad():
                for to_rgb in (self.stylegan_decoder.to_rgb1, *self.stylegan_decoder.to_rgbs):
                    to_rgb.modulated_conv.weight.mul_(0.05)


def _he_init(conv: nn.Module, gain: float) -> None:
    """Initialize for a leaky ReLU of slope 0.2 (He et al.), times `gain`; biases zero."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    nn.init.kaiming_normal_(conv.weight, a=0.2)
    with torch.no_grad():
        conv.weight.mul_(gain)
    nn.init.zeros_(conv.bias)


def _condition(width: int, sft_channels: int, bias: float) -> nn.Sequential:
    """Return convolutions from U-Net features to one SFT condition, which starts near `bias`."""
    first = nn.Conv2d(width, width, 3, padding=1)
    _he_init(first, 1.0)
    last = nn.Conv2d(width, sft_channels, 3, padding=1)
    _he_init(last, 0.1)
    nn.init.constant_(last.bias, bias)  # type: ignore[arg-type]
    return nn.Sequential(first, nn.LeakyReLU(0.2, inplace=True), last)
