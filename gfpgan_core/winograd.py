"""3x3 convolutions of float32 images on the CPU, faster than torch's own (oneDNN).

Plain ones by Winograd's method: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(arXiv 1509.09308), F(4x4, 3x3): 36 multiplications for 16 output pixels instead of 144.

Those of a bilinearly enlarged image as nine 1x1 convolutions of the small one, which commute with
the enlarging: 36 multiplications for 16 output pixels too, and nothing to correct at the border.

What happens around the matrix products is compiled by numba; the products are torch's.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numba import config as numba_config
from numba import get_num_threads, njit, prange, set_num_threads
from numpy.typing import NDArray
from torch import Tensor, nn

from gfpgan_core.networks.resample import BilinearConv2d, bilinear_then_conv
from gfpgan_core.networks.stylegan2 import ModulatedConv2d

_TILE = 4  # output pixels a side; a tile reads 6x6

# Below these, measured on AVX-512, the transforms cost what the products save.
_MIN_CHANNELS = 64
_MIN_SIDE_PX = 32

# Transformed tiles in flight, in and out together: more falls out of the last-level cache.
_CHUNK_BYTES = 8 << 20

# The paper's G for F(4x4, 3x3).
_G = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float64,
)

_one_at_a_time = threading.Lock()  # not all of numba's thread pools bear two callers


def transform_weight(weight: Tensor) -> Tensor:
    """(C_out, C_in, 3, 3) to (36, C_in, C_out)."""
    u = torch.einsum("ai,oqij,bj->abqo", _G, weight.double(), _G)
    return u.flatten(0, 1).float().contiguous()


def convolve(image: Tensor, weight_u: Tensor, in_scale: Tensor, out_scale: Tensor) -> Tensor:
    """`out_scale * conv2d(in_scale * image, weight, padding=1)`, in channels_last.

    Args:
        image: (N, C_in, H, W), float32, sides divisible by 4.
        weight_u: what `transform_weight` gives.
        in_scale: (N, C_in).
        out_scale: (N, C_out).
    """
    count, in_channels, height, width = image.shape
    out_channels = weight_u.shape[2]
    pixels = image.permute(0, 2, 3, 1).contiguous().numpy()
    result = np.empty((count, height, width, out_channels), np.float32)
    tiles_across, tile_rows = width // _TILE, height // _TILE
    row_bytes = 36 * 4 * (in_channels + out_channels) * tiles_across
    rows = min(tile_rows, max(1, _CHUNK_BYTES // row_bytes))
    v = _uninitialised(36, rows * tiles_across, in_channels)
    m = _uninitialised(36, rows * tiles_across, out_channels)
    with _one_at_a_time:
        _use_torchs_thread_count()
        for n in range(count):
            scales = in_scale[n].contiguous().numpy(), out_scale[n].contiguous().numpy()
            for first in range(0, tile_rows, rows):
                chunk = min(rows, tile_rows - first)
                tiles = chunk * tiles_across
                _transform_input(pixels[n], scales[0], first, chunk, v.numpy())
                torch.bmm(v[:, :tiles], weight_u, out=m[:, :tiles])
                _transform_output(m.numpy(), scales[1], first, chunk, result[n])
    return torch.from_numpy(result).permute(0, 3, 1, 2)


def taps_of(weight: Tensor) -> Tensor:
    """(C_out, C_in, 3, 3) to (C_in, 9 * C_out), the rows of the kernel outermost."""
    return weight.permute(1, 2, 3, 0).flatten(1).contiguous()


def enlarge_and_convolve(image: Tensor, taps: Tensor, out_scale: Tensor) -> Tensor:
    """`out_scale * conv2d(bilinear(image, 2), weight, padding=1)`, in channels_last.

    Args:
        image: (N, C_in, H, W), float32.
        taps: (N or 1, C_in, 9 * C_out), what `taps_of` gives for each image, or for all.
        out_scale: (N, C_out).
    """
    count, in_channels, height, width = image.shape
    out_channels = out_scale.shape[1]
    pixels = image.permute(0, 2, 3, 1).contiguous().view(count, height * width, in_channels)
    result = np.empty((count, 2 * height, 2 * width, out_channels), np.float32)
    rows = min(height, max(1, _CHUNK_BYTES // (36 * out_channels * width)))
    # Of each tap, the rows of this chunk between the last of the one before and the first of the
    # next.
    products = _uninitialised((rows + 2) * width, 9 * out_channels)
    view = products.view(rows + 2, width, 9, out_channels).numpy()
    with _one_at_a_time:
        _use_torchs_thread_count()
        for n in range(count):
            weight = taps[n % len(taps)]
            scale = out_scale[n].contiguous().numpy()
            for first in range(0, height, rows):
                last = min(first + rows, height)
                # Rows `first` - 1 and `first` are there already, but for the image's first chunk.
                start = first + 1 if first else 0
                stop = min(last + 1, height)
                if first:
                    view[:2] = view[rows : rows + 2]
                base = (start - first + 1) * width
                torch.mm(
                    pixels[n, start * width : stop * width],
                    weight,
                    out=products[base : base + (stop - start) * width],
                )
                _combine(view, scale, first, last, result[n])
    return torch.from_numpy(result).permute(0, 3, 1, 2)


def _uninitialised(*shape: int) -> Tensor:
    """numpy asks for huge pages, torch doesn't: the whole network takes a quarter less time."""
    return torch.from_numpy(np.empty(shape, np.float32))


def _use_torchs_thread_count() -> None:
    pool_size: int = numba_config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    wanted = min(torch.get_num_threads(), pool_size)
    if get_num_threads() != wanted:
        set_num_threads(wanted)


@njit(inline="always", fastmath=True)  # type: ignore[untyped-decorator]
def _bilinear_taps(odd: int, first: bool, last: bool) -> Any:
    """The weights of three kernel taps, each at two neighbouring samples of the small image.

    Output 2k + `odd` sees the enlarged samples 2k + odd - 1 to 2k + odd + 1; those before the
    first and after the last are zeros. In the order tap 0 at k-1, k; tap 1 at its two; tap 2 at
    k, k+1.
    """
    w0 = np.float32(0.0 if first else 0.25)
    w2 = np.float32(0.0 if last else 0.25)
    quarter, three = np.float32(0.25), np.float32(0.75)
    if odd:
        return w0, 3 * w0, three, quarter, w2, 3 * w2
    return 3 * w0, w0, quarter, three, 3 * w2, w2


@njit(parallel=True, fastmath=True, cache=True)  # type: ignore[untyped-decorator]
def _combine(
    a: NDArray[np.float32],
    scale: NDArray[np.float32],
    first_row: int,
    last_row: int,
    result: NDArray[np.float32],
) -> None:
    """Products (rows + 2, W, 9, C), from row `first_row` - 1 on, to rows of the result."""
    height = result.shape[0] // 2
    width, channels = a.shape[1], a.shape[3]
    for out_row in prange(2 * first_row, 2 * last_row):
        k, odd = out_row // 2, out_row % 2
        here = k - first_row + 1
        above = here - 1 if k > 0 else here
        below = here + 1 if k < height - 1 else here
        mid0 = here if odd else above  # the second tap's two samples
        mid1 = below if odd else here
        p = _bilinear_taps(odd, out_row == 0, out_row == 2 * height - 1)
        line = np.empty((width, 3, channels), np.float32)  # vertically done
        for x in range(width):
            for j in range(3):
                for c in range(channels):
                    line[x, j, c] = (
                        p[0] * a[above, x, j, c]
                        + p[1] * a[here, x, j, c]
                        + p[2] * a[mid0, x, 3 + j, c]
                        + p[3] * a[mid1, x, 3 + j, c]
                        + p[4] * a[here, x, 6 + j, c]
                        + p[5] * a[below, x, 6 + j, c]
                    )
        for x in range(width):
            left = x - 1 if x > 0 else x
            right = x + 1 if x < width - 1 else x
            e = _bilinear_taps(0, x == 0, False)
            o = _bilinear_taps(1, False, x == width - 1)
            for c in range(channels):
                l0, h0 = line[left, 0, c], line[x, 0, c]
                l1, h1, r1 = line[left, 1, c], line[x, 1, c], line[right, 1, c]
                h2, r2 = line[x, 2, c], line[right, 2, c]
                even = e[0] * l0 + e[1] * h0 + e[2] * l1 + e[3] * h1 + e[4] * h2 + e[5] * r2
                odds = o[0] * l0 + o[1] * h0 + o[2] * h1 + o[3] * r1 + o[4] * h2 + o[5] * r2
                result[out_row, 2 * x, c] = even * scale[c]
                result[out_row, 2 * x + 1, c] = odds * scale[c]


@njit(inline="always", fastmath=True)  # type: ignore[untyped-decorator]
def _bt(a: float, b: float, c: float, d: float, e: float, f: float) -> Any:
    """The paper's transposed B: six input samples."""
    return (
        4 * a - 5 * c + e,
        -4 * (b + c) + d + e,
        4 * (b - c) - d + e,
        2 * (d - b) - c + e,
        2 * (b - d) - c + e,
        4 * b - 5 * d + f,
    )


@njit(inline="always", fastmath=True)  # type: ignore[untyped-decorator]
def _at(a: float, b: float, c: float, d: float, e: float, f: float) -> Any:
    """The paper's transposed A: six products to four output samples."""
    even, odd = b + c, b - c
    even2, odd2 = d + e, d - e
    return (a + even + even2, odd + 2 * odd2, even + 4 * even2, odd + 8 * odd2 + f)


@njit(parallel=True, fastmath=True, cache=True)  # type: ignore[untyped-decorator]
def _transform_input(
    pixels: NDArray[np.float32],
    scale: NDArray[np.float32],
    first_row: int,
    rows: int,
    v: NDArray[np.float32],
) -> None:
    """Rows of tiles of (H, W, C) pixels, scaled, into (36, tiles, C); zeros beyond the border."""
    height, width, channels = pixels.shape
    across = width // 4
    for tile in prange(rows * across):
        top = 4 * (first_row + tile // across) - 1
        left = 4 * (tile % across) - 1
        d = np.empty((6, 6, channels), np.float32)
        for i in range(6):
            for j in range(6):
                if 0 <= top + i < height and 0 <= left + j < width:
                    for c in range(channels):
                        d[i, j, c] = pixels[top + i, left + j, c] * scale[c]
                else:
                    for c in range(channels):
                        d[i, j, c] = 0
        for i in range(6):
            for c in range(channels):
                r = _bt(d[i, 0, c], d[i, 1, c], d[i, 2, c], d[i, 3, c], d[i, 4, c], d[i, 5, c])
                d[i, 0, c], d[i, 1, c], d[i, 2, c] = r[0], r[1], r[2]
                d[i, 3, c], d[i, 4, c], d[i, 5, c] = r[3], r[4], r[5]
        for j in range(6):
            for c in range(channels):
                r = _bt(d[0, j, c], d[1, j, c], d[2, j, c], d[3, j, c], d[4, j, c], d[5, j, c])
                v[j, tile, c], v[6 + j, tile, c], v[12 + j, tile, c] = r[0], r[1], r[2]
                v[18 + j, tile, c], v[24 + j, tile, c], v[30 + j, tile, c] = r[3], r[4], r[5]


@njit(parallel=True, fastmath=True, cache=True)  # type: ignore[untyped-decorator]
def _transform_output(
    m: NDArray[np.float32],
    scale: NDArray[np.float32],
    first_row: int,
    rows: int,
    result: NDArray[np.float32],
) -> None:
    """(36, tiles, C) products to rows of tiles of the (H, W, C) result, scaled."""
    _, width, channels = result.shape
    across = width // 4
    for tile in prange(rows * across):
        top = 4 * (first_row + tile // across)
        left = 4 * (tile % across)
        d = np.empty((4, 6, channels), np.float32)
        for j in range(6):
            for c in range(channels):
                r = _at(
                    m[j, tile, c],
                    m[6 + j, tile, c],
                    m[12 + j, tile, c],
                    m[18 + j, tile, c],
                    m[24 + j, tile, c],
                    m[30 + j, tile, c],
                )
                d[0, j, c], d[1, j, c], d[2, j, c], d[3, j, c] = r[0], r[1], r[2], r[3]
        for i in range(4):
            for c in range(channels):
                r = _at(d[i, 0, c], d[i, 1, c], d[i, 2, c], d[i, 3, c], d[i, 4, c], d[i, 5, c])
                result[top + i, left, c] = r[0] * scale[c]
                result[top + i, left + 1, c] = r[1] * scale[c]
                result[top + i, left + 2, c] = r[2] * scale[c]
                result[top + i, left + 3, c] = r[3] * scale[c]


def _pays(x: Tensor, weight: Tensor) -> bool:
    height, width = x.shape[2:]
    return (
        x.dtype == torch.float32
        and height % _TILE == 0
        and width % _TILE == 0
        and min(height, width) >= _MIN_SIDE_PX
        and min(weight.shape[:2]) >= _MIN_CHANNELS
    )


class WinogradConv2d(nn.Module):
    """What an `nn.Conv2d` (3x3, stride 1, padding 1) computes, by Winograd where that pays."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self._weight_u: Tensor | None = None  # made at the first image that is large enough

    def forward(self, x: Tensor) -> Tensor:
        if not _pays(x, self.weight):
            return F.conv2d(x, self.weight, self.bias, padding=1)
        if self._weight_u is None:
            self._weight_u = transform_weight(self.weight)
        out_channels, in_channels = self.weight.shape[:2]
        ones_in = torch.ones(len(x), in_channels)
        y = convolve(x, self._weight_u, ones_in, torch.ones(len(x), out_channels))
        return y if self.bias is None else y.add_(self.bias[:, None, None])


class WinogradModulatedConv2d(nn.Module):
    """What a `ModulatedConv2d` computes, by Winograd where that pays."""

    def __init__(self, conv: ModulatedConv2d) -> None:
        super().__init__()
        self.conv = conv
        self._weight_u: Tensor | None = None

    def forward(self, x: Tensor, style_code: Tensor) -> Tensor:
        if not _pays(x, self.conv.weight[0]):
            return self.conv(x, style_code)
        if self._weight_u is None:
            self._weight_u = transform_weight(self.conv.weight[0])
        style = self.conv.modulation(style_code)
        return convolve(x, self._weight_u, style, self.conv.demodulation(style))


class TapsBilinearConv2d(nn.Module):
    """What a `BilinearConv2d` computes."""

    def __init__(self, conv: BilinearConv2d) -> None:
        super().__init__()
        self.weight = conv.weight
        self.bias = conv.bias
        self._taps = taps_of(conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return bilinear_then_conv(x, self.weight, self.bias)
        ones = torch.ones(len(x), len(self.weight))
        y = enlarge_and_convolve(x, self._taps[None], ones)
        return y if self.bias is None else y.add_(self.bias[:, None, None])


class TapsModulatedConv2d(nn.Module):
    """What a `ModulatedConv2d` with bilinear upsampling computes."""

    def __init__(self, conv: ModulatedConv2d) -> None:
        super().__init__()
        self.conv = conv
        self._taps = taps_of(conv.weight[0])

    def forward(self, x: Tensor, style_code: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            return self.conv(x, style_code)
        style = self.conv.modulation(style_code)
        # The taps are smaller than the image: they are scaled, not the image.
        return enlarge_and_convolve(
            x, style[:, :, None] * self._taps, self.conv.demodulation(style)
        )


def use_winograd(network: nn.Module) -> None:
    """Replaces, in place, the convolutions that this module computes faster."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, BilinearConv2d):
                setattr(module, name, TapsBilinearConv2d(child))
            elif isinstance(child, nn.Conv2d) and _is_plain_3x3(child):
                setattr(module, name, WinogradConv2d(child))
            elif isinstance(child, ModulatedConv2d) and child.demodulate:
                if not child.upsample:
                    setattr(module, name, WinogradModulatedConv2d(child))
                elif child.resampling == "bilinear":
                    setattr(module, name, TapsModulatedConv2d(child))


def _is_plain_3x3(conv: nn.Conv2d) -> bool:
    return (
        conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.padding == (1, 1)
        and conv.dilation == (1, 1)
        and conv.groups == 1
    )
