"""The StyleGAN2 decoder with spatial feature transform (SFT).

Source: StyleGAN2 (arXiv 1912.04958), GFPGAN (arXiv 2101.04061, section 3.3). Attribute names are
those of the releases' state dicts. Unlike upstream, styles scale the activations and not the
weights: y = demod * conv(x * s, W). The result is the same, the weights are constants, and one
convolution serves the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.networks.resample import bilinear, bilinear_then_conv, fir_blur, fir_upsample

_DEMODULATION_EPS = 1e-8  # the releases' value


class NormStyleCode(nn.Module):
    """Scale each (N, S) code to unit mean square."""

    def forward(self, style_code: Tensor) -> Tensor:
        return style_code * torch.rsqrt(style_code.square().mean(dim=1, keepdim=True) + 1e-8)


class ModulatedConv2d(nn.Module):
    """A convolution whose inputs are scaled by a style; may double the resolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_features: int,
        *,
        demodulate: bool = True,
        gain: float = 1.0,
        upsample: bool = False,
        resampling: str = "bilinear",
    ) -> None:
        super().__init__()
        self.demodulate = demodulate
        self.gain = gain  # of the demodulated outputs
        self.upsample = upsample
        self.resampling = resampling
        self.padding_px = kernel_size // 2
        self.modulation = nn.Linear(style_features, in_channels)
        nn.init.kaiming_normal_(self.modulation.weight, nonlinearity="linear")
        nn.init.ones_(self.modulation.bias)
        shape = (1, out_channels, in_channels, kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(shape))
        nn.init.normal_(self.weight, std=1 / math.sqrt(in_channels * kernel_size**2))

    def forward(self, x: Tensor, style_code: Tensor) -> Tensor:
        """Return (N, C_out, H, W), or twice that size when upsampling; codes are (N, S)."""
        style = self.modulation(style_code)  # (N, C_in)
        weight = self.weight[0]
        if not self.padding_px and not self.demodulate:
            # 1x1: a matrix product with each sample's own small weights, without a copy of x.
            own = self.own_weights(style).to(x.dtype)
            return (own @ x.flatten(2)).unflatten(2, x.shape[2:])
        y = self._convolve(x * style[:, :, None, None].to(x.dtype), weight.to(x.dtype))
        if not self.demodulate:
            return y
        return y.mul_(self.demodulation(style)[:, :, None, None].to(y.dtype))

    def own_weights(self, style: Tensor) -> Tensor:
        """Return each sample's weights (N, C_out, C_in) of a 1x1 layer; `style` is (N, C_in)."""
        return self.weight[0].flatten(1) * style[:, None]

    def weight_energy(self) -> Tensor:
        """Return (C_in, C_out): each input's share of the energy of each output's weights."""
        # In float32: the sum over 4608 squares of an fp16 or bf16 weight loses too much.
        return self.weight[0].float().square().sum(dim=(2, 3)).T

    def demodulation(self, style: Tensor, weight_energy: Tensor | None = None) -> Tensor:
        """Return the (N, C_out) factors that undo (N, C_in) input scales on average.

        `weight_energy` is this layer's, if it is known already.
        """
        if weight_energy is None:
            weight_energy = self.weight_energy()
        energy = style.float().square() @ weight_energy
        return self.gain * torch.rsqrt(energy + _DEMODULATION_EPS)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        if not self.upsample:
            return F.conv2d(x, weight, padding=self.padding_px)
        if self.resampling == "bilinear":
            return bilinear_then_conv(x, weight)
        # StyleGAN2 doesn't flip the kernel for the transposed convolution: neither do its weights.
        return fir_blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, gain=4)


class StyleConv(nn.Module):
    """A modulated convolution, then noise, bias and leaky ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_features: int,
        *,
        upsample: bool = False,
        resampling: str = "bilinear",
    ) -> None:
        super().__init__()
        # sqrt(2): StyleGAN2's gain of the leaky ReLU, which the clean releases keep here because
        # demodulation would undo it inside the weights.
        self.modulated_conv = ModulatedConv2d(
            in_channels,
            out_channels,
            3,
            style_features,
            gain=math.sqrt(2),
            upsample=upsample,
            resampling=resampling,
        )
        self.weight = nn.Parameter(torch.zeros(1))  # strength of the noise
        self.bias = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def forward(self, x: Tensor, style_code: Tensor, noise: Tensor) -> Tensor:
        # In place: at 512 px a new tensor costs more (64 MB of fresh pages) than the sum itself.
        y = self.modulated_conv(x, style_code)
        y.add_((self.weight * noise).to(y.dtype)).add_(self.bias.to(y.dtype))
        return F.leaky_relu(y, 0.2, inplace=True)


class ToRGB(nn.Module):
    """Add this level's colors to the enlarged image of the level below."""

    def __init__(self, in_channels: int, style_features: int, resampling: str = "bilinear") -> None:
        super().__init__()
        self.resampling = resampling
        self.modulated_conv = ModulatedConv2d(in_channels, 3, 1, style_features, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style_code: Tensor, image: Tensor | None = None) -> Tensor:
        return self.onto(image, self.modulated_conv(x, style_code) + self.bias.to(x.dtype))

    def onto(self, image: Tensor | None, rgb: Tensor) -> Tensor:
        """Add this level's colors to the enlarged image, if there is one."""
        if image is None:
            return rgb
        return rgb + (bilinear(image, 2) if self.resampling == "bilinear" else fir_upsample(image))


class SpatialFeatureTransform(nn.Module):
    """Scale and shift the second half of the channels, pixel by pixel; the first half stays."""

    def forward(self, x: Tensor, sft_scale: Tensor, sft_shift: Tensor) -> Tensor:
        """Return (N, C, H, W) for (N, C, H, W) and two of (N, C / 2, H, W)."""
        untouched, modulated = x.chunk(2, dim=1)
        return torch.cat([untouched, torch.addcmul(sft_shift, modulated, sft_scale)], dim=1)


class ConstantInput(nn.Module):
    """The learned (C, 4, 4) image that the decoder starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        return self.weight.expand(batch, -1, -1, -1)


def _mapping_layer(features: int) -> nn.Linear:
    """Return a layer whose leaky ReLU keeps the mean square of its input.

    As upstream's clean form starts. From torch's own smaller weights all z give nearly one w.
    """
    layer = nn.Linear(features, features)
    nn.init.kaiming_normal_(layer.weight, a=0.2)
    nn.init.zeros_(layer.bias)
    return layer


class StyleGAN2Decoder(nn.Module):
    """Style codes, and optionally SFT conditions, to an image.

    Without conditions it is a StyleGAN2 generator in W space; `style_mlp` maps z to W.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        features = config.style_features
        resampling = config.resampling
        mapping: list[nn.Module] = [NormStyleCode()]
        for _ in range(config.mlp_layers):
            mapping += [_mapping_layer(features), nn.LeakyReLU(0.2)]
        self.style_mlp = nn.Sequential(*mapping)

        channels = config.decoder_channels(4)
        self.constant_input = ConstantInput(channels)
        self.style_conv1 = StyleConv(channels, channels, features)
        self.to_rgb1 = ToRGB(channels, features)
        self.style_convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        self.feature_transform = SpatialFeatureTransform()
        self.noises = nn.Module()
        self.noises.register_buffer("noise0", torch.randn(1, 1, 4, 4))
        for level_px in config.levels_px[1:]:
            previous, channels = channels, config.decoder_channels(level_px)
            self.style_convs.append(
                StyleConv(previous, channels, features, upsample=True, resampling=resampling)
            )
            self.style_convs.append(StyleConv(channels, channels, features))
            self.to_rgbs.append(ToRGB(channels, features, resampling))
            for index in (len(self.style_convs) - 1, len(self.style_convs)):
                noise = torch.randn(1, 1, level_px, level_px)
                self.noises.register_buffer(f"noise{index}", noise)

    def forward(
        self,
        style_codes: Tensor,
        condition: Callable[[int], tuple[Tensor, Tensor]] | None = None,
        *,
        noise_seeds: Tensor | None = None,
    ) -> Tensor:
        """Return an image (N, 3, size, size), about -1..1, unclipped.

        Args:
            style_codes: (N, style_count, S), one code a layer.
            condition: returns (sft_scale, sft_shift) of half the level's channels. It is called for
                the levels from 8 px up (0, 1 ...) in turn, when each is reached: so one level's are
                in memory at a time.
            noise_seeds: (N,) integers on the CPU; noise is drawn anew for each (training), so that
                an image doesn't depend on its neighbors in the batch. Without them the stored
                noise is used, always the same.
        """
        device = style_codes.device
        seeds = [] if noise_seeds is None else noise_seeds.tolist()
        generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

        def noise(index: int) -> Tensor:
            stored = self.noises.get_buffer(f"noise{index}")
            if not generators:
                return stored
            shape = stored.shape[1:]
            return torch.stack([torch.randn(shape, generator=g, device=device) for g in generators])

        x = self.constant_input(len(style_codes)).to(style_codes.dtype)
        if generators:  # training: the format of its images and of the U-Net's features
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.style_conv1(x, style_codes[:, 0], noise(0))
        image = self.to_rgb1(x, style_codes[:, 1])
        for level, to_rgb in enumerate(self.to_rgbs):
            first = 2 * level + 1
            x = self.style_convs[first - 1](x, style_codes[:, first], noise(first))
            if condition is not None:
                x = self.feature_transform(x, *condition(level))
            x = self.style_convs[first](x, style_codes[:, first + 1], noise(first + 1))
            image = to_rgb(x, style_codes[:, first + 2], image)
        return image
