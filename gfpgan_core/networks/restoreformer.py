"""RestoreFormer: a VQ-GAN whose decoder attends to the degraded face's own features.

Source: arXiv 2201.06374; attribute names and sizes are those of the official weights. Unlike
upstream, the nearest code is looked up by index, and attention is torch's fused one.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.config import RestoreFormerConfig


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResnetBlock(nn.Module):
    """Two normalized convolutions beside a shortcut."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttentionBlock(nn.Module):
    """Multi-head attention over all positions; queries come from `context` if there is one."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = _norm(channels)
        self.norm2 = _norm(channels)  # of the context: unused in the encoder, but in the files
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return (N, C, H, W), of the shape of `x` and `context`."""
        normed = self.norm1(x)
        queries = normed if context is None else self.norm2(context)
        attended = F.scaled_dot_product_attention(
            self._split(self.q(queries)), self._split(self.k(normed)), self._split(self.v(normed))
        )
        return x + self.proj_out(attended.transpose(2, 3).reshape(x.shape))

    def _split(self, x: Tensor) -> Tensor:
        """Split (N, C, H, W) into (N, heads, H * W, C / heads)."""
        return x.flatten(2).unflatten(1, (self.heads, -1)).transpose(2, 3)


class Downsample(nn.Module):
    """A convolution that halves the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # right and bottom only, as in VQ-GAN


class Upsample(nn.Module):
    """Nearest-neighbor enlarging to twice the size, and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class Level(nn.Module):
    """The blocks of one resolution; `downsample` or `upsample` is set where one follows."""

    downsample: Downsample
    upsample: Upsample

    def __init__(self, blocks: list[nn.Module], attention: list[nn.Module]) -> None:
        super().__init__()
        self.block = nn.ModuleList(blocks)
        self.attn = nn.ModuleList(attention)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[i](x, context)
        return x


class Middle(nn.Module):
    """The blocks of the lowest resolution."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, channels)
        self.attn_1 = AttentionBlock(channels, heads)
        self.block_2 = ResnetBlock(channels, channels)


def _level(config: RestoreFormerConfig, index: int, in_channels: int, blocks: int) -> Level:
    channels = config.base_channels * config.channel_factors[index]
    widths = [in_channels] + [channels] * (blocks - 1)
    attends = config.face_size_px >> index == config.attention_px
    return Level(
        [ResnetBlock(width, channels) for width in widths],
        [AttentionBlock(channels, config.heads) for _ in range(blocks * attends)],
    )


class Encoder(nn.Module):
    """Images to latents, and to the contexts that the decoder attends to."""

    def __init__(self, config: RestoreFormerConfig) -> None:
        super().__init__()
        width = config.base_channels
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        self.down = nn.ModuleList()
        last = len(config.channel_factors) - 1
        for index, factor in enumerate(config.channel_factors):
            level = _level(config, index, width, config.blocks_per_level)
            width = config.base_channels * factor
            if index != last:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(width, config.heads)
        self.norm_out = _norm(width)
        self.conv_out = nn.Conv2d(width, config.latent_channels, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the latent, and the contexts for the decoder's lowest level and for its middle."""
        x = self.conv_in(image)
        for level in self.down:
            assert isinstance(level, Level)
            x = level(x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        level_context = x = self.mid.block_1(x)
        middle_context = x = self.mid.block_2(self.mid.attn_1(x))
        return self.conv_out(F.silu(self.norm_out(x))), level_context, middle_context


class Decoder(nn.Module):
    """Latents and contexts to images."""

    def __init__(self, config: RestoreFormerConfig) -> None:
        super().__init__()
        width = config.base_channels * config.channel_factors[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.mid = Middle(width, config.heads)
        levels: list[Level] = []
        for index in reversed(range(len(config.channel_factors))):
            level = _level(config, index, width, config.blocks_per_level + 1)
            width = config.base_channels * config.channel_factors[index]
            if index:
                level.upsample = Upsample(width)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latent: Tensor, level_context: Tensor, middle_context: Tensor) -> Tensor:
        x = self.mid.block_1(self.conv_in(latent))
        x = self.mid.block_2(self.mid.attn_1(x, middle_context))
        for level in reversed(self.up):
            assert isinstance(level, Level)
            x = level(x, level_context)
            if hasattr(level, "upsample"):
                x = level.upsample(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class VectorQuantizer(nn.Module):
    """Replaces each latent vector by the nearest of the codebook."""

    def __init__(self, codebook_size: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codebook_size, channels)
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)

    def forward(self, latent: Tensor) -> Tensor:
        """Return the nearest codes, of the same shape (N, C, H, W)."""
        vectors = latent.permute(0, 2, 3, 1)
        codes = self.embedding.weight
        # |z - e|^2 without |z|^2, which is the same for every code.
        distance = codes.square().sum(dim=1) - 2 * (vectors @ codes.T)
        return self.embedding(distance.argmin(dim=-1)).permute(0, 3, 1, 2)


class RestoreFormer(nn.Module):
    """Restores aligned faces; for inference with the official weights.

    An encoder's latents are replaced by their nearest codes, those of good faces, and decoded with
    attention to the encoder's own features.
    """

    def __init__(self, config: RestoreFormerConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = VectorQuantizer(config.codebook_size, channels)
        self.quant_conv = nn.Conv2d(channels, channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, lq: Tensor) -> Tensor:
        """Return the restored crops (N, 3, size, size) of RGB in -1..1, about -1..1, unclipped."""
        latent, level_context, middle_context = self.encoder(lq)
        quantized = self.quantize(self.quant_conv(latent))
        return self.decoder(self.post_quant_conv(quantized), level_context, middle_context)
