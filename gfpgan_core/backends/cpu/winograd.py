"""3x3 convolutions of float32 images on the CPU, faster than torch's own (oneDNN).

Plain ones by Winograd's method: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(arXiv 1509.09308), F(4x4, 3x3): 36 multiplications for 16 output pixels instead of 144.

Those of a bilinearly enlarged image as nine 1x1 convolutions of the small one, which commute with
the enlarging: 36 multiplications for 16 output pixels too, and nothing to correct at the border.

A thread takes a few tiles at a time, so that they stay in its cache from the input's transform over
the matrix products (numpy's BLAS) to the output's with noise, bias and leaky ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfpgan_core.backends.cpu.kernel import Array, apply_epilogue, inlined, kernel
from gfpgan_core.backends.cpu.threads import in_parallel, scratch_of, threads
from gfpgan_core.runtime import returning_freed_memory
from gfpgan_core.tiling import even_parts

TILE_PX = 4  # output pixels a side; a tile reads 6x6

# Tiles that a thread takes at once. Many are many rows for each product; few stay in the cache,
# unless the weights (36 * C_in * C_out) don't fit there anyway.
_TILES = 96
_TILES_OF_LARGE_WEIGHTS = 256
_LARGE_WEIGHTS_BYTES = 4 << 20

# Nine products of a few rows, for one thread.
ROWS_BYTES = 4 << 20

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


# To numba a Python number times a float32 is a float64: the kernels would take four times as long.
_2, _3, _4, _5, _8 = (np.float32(value) for value in (2, 3, 4, 5, 8))
_Arrays = tuple[Array, Array, Array, Array]


def _array(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


@dataclass(frozen=True)
class Epilogue:
    """What follows a convolution: `leaky_relu(scale * y + bias + noise, slope)`."""

    scale: Tensor
    """(N or 1, C_out)."""
    bias: Tensor
    """(C_out,)."""
    slope: Tensor
    """(C_out,): 1 leaves the sum as it is."""
    noise: Tensor | None = None
    """(N or 1, 1, H, W)."""

    def for_image(self, n: int) -> _Arrays:
        """Return scale, bias, slope and noise of one image of the batch; no noise is empty."""
        noise = torch.empty(0, 0) if self.noise is None else self.noise[n % len(self.noise), 0]
        scale = self.scale[n % len(self.scale)]
        return _array(scale), _array(self.bias), _array(self.slope), _array(noise)


def transform_weight(weight: Tensor) -> Tensor:
    """Return the (36, C_in, C_out) transforms of weights (C_out, C_in, 3, 3)."""
    out_channels, in_channels = weight.shape[:2]
    # Of two dimensions at once, and in float32: 30 times as fast as one after the other in float64.
    both = torch.kron(_G, _G).to(weight.dtype)
    with returning_freed_memory():  # they stay: among the images they would keep holes open
        taps = weight.detach().permute(2, 3, 1, 0).reshape(9, in_channels * out_channels)
        return (both @ taps).reshape(36, in_channels, out_channels)


@threads.exclusive()
def convolve(
    image: Tensor,
    weight_u: Tensor,
    in_scale: Tensor,
    epilogue: Epilogue,
    *,
    reflected: bool = False,
) -> Tensor:
    """Return `epilogue(conv2d(in_scale * image, weight, padding=1))`, in channels_last.

    Args:
        image: (N, C_in, H, W), float32, sides divisible by 4.
        weight_u: what `transform_weight` gives.
        in_scale: (N or 1, C_in).
        epilogue: what follows.
        reflected: beyond the border is the image, reflected, instead of zeros.
    """
    pixels = image.permute(0, 2, 3, 1).contiguous().numpy()
    count, height, width, in_channels = pixels.shape
    u = weight_u.numpy()
    out_channels = u.shape[2]
    result = np.empty((count, height, width, out_channels), np.float32)
    tiles = height * width // TILE_PX**2
    most = _TILES if u.nbytes < _LARGE_WEIGHTS_BYTES else _TILES_OF_LARGE_WEIGHTS
    parts = even_parts(tiles, min(most, -(-tiles // threads.count)))

    def work(n: int, scale: Array, last: _Arrays, part: tuple[int, int]) -> None:
        first, count = part[0], part[1] - part[0]
        split = 36 * count * in_channels
        scratch = scratch_of(split + 36 * count * out_channels)
        v = scratch[:split].reshape(36, count, in_channels)
        m = scratch[split:].reshape(36, count, out_channels)
        _transform_input(pixels[n], scale, first, reflected, v)
        np.matmul(v, u, out=m)
        _transform_output(m, *last, first, result[n])

    for n in range(count):
        scale = _array(in_scale[n % len(in_scale)])
        in_parallel(partial(work, n, scale, epilogue.for_image(n)), parts)
    return torch.from_numpy(result).permute(0, 3, 1, 2)


def taps_of(weight: Tensor) -> Tensor:
    """Return weights (C_out, C_in, 3, 3) as (C_in, 9 * C_out), the kernel's rows outermost."""
    return weight.detach().permute(1, 2, 3, 0).flatten(1).contiguous()


@threads.exclusive()
def enlarge_and_convolve(image: Tensor, taps: Tensor, epilogue: Epilogue) -> Tensor:
    """Return `epilogue(conv2d(bilinear(image, 2), weight, padding=1))`, in channels_last.

    Args:
        image: (N, C_in, H, W), float32.
        taps: (N or 1, C_in, 9 * C_out), what `taps_of` gives for each image, or for all.
        epilogue: what follows.
    """
    pixels = image.permute(0, 2, 3, 1).contiguous().numpy()
    count, height, width, in_channels = pixels.shape
    out_channels = taps.shape[2] // 9
    result = np.empty((count, 2 * height, 2 * width, out_channels), np.float32)
    row = width * 9 * out_channels
    # A part's products are its own: two rows more than it has, so that few parts are best.
    parts = even_parts(height, -(-height // (2 * threads.count)))
    at_once = max(1, min(ROWS_BYTES // (4 * row), parts[0][1]))

    def work(n: int, weight: Array, last: _Arrays, part: tuple[int, int]) -> None:
        line = np.empty((width, 3, out_channels), np.float32)
        # Products of the rows from `first` - 1 to `past`; two are there from the round before.
        rows = scratch_of((at_once + 2) * row).reshape(at_once + 2, width, 9 * out_channels)
        for first in range(*part, at_once):
            past = min(first + at_once, part[1])
            start, stop = max(first - 1, 0), min(past + 1, height)
            if first > part[0]:
                rows[:2] = rows[at_once:]
                start = first + 1
            base = start - first + 1
            products = rows[base : base + stop - start].reshape(-1, 9 * out_channels)
            np.matmul(pixels[n, start:stop].reshape(-1, in_channels), weight, out=products)
            by_tap = rows.reshape(at_once + 2, width, 9, out_channels)
            _combine(by_tap, *last, first, past, line, result[n])

    for n in range(count):
        weight = _array(taps[n % len(taps)])
        in_parallel(partial(work, n, weight, epilogue.for_image(n)), parts)
    return torch.from_numpy(result).permute(0, 3, 1, 2)


@inlined
def _bilinear_taps(odd: int, first: bool, last: bool) -> Any:
    """Return the weights of three kernel taps, each at two neighboring samples of the small image.

    Output 2k + `odd` sees the enlarged samples 2k + odd - 1 to 2k + odd + 1; those before the
    first and after the last are zeros. In the order tap 0 at k-1, k; tap 1 at its two; tap 2 at
    k, k+1.
    """
    w0 = np.float32(0.0 if first else 0.25)
    w2 = np.float32(0.0 if last else 0.25)
    quarter, three = np.float32(0.25), np.float32(0.75)
    if odd:
        return w0, _3 * w0, three, quarter, w2, _3 * w2
    return _3 * w0, w0, quarter, three, _3 * w2, w2


@kernel
def _combine(
    a: Array,
    scale: Array,
    bias: Array,
    slope: Array,
    noise: Array,
    first_row: int,
    last_row: int,
    line: Array,
    result: Array,
) -> None:
    """Combine products (rows + 2, W, 9, C), from row `first_row` - 1 on, into the result's rows."""
    height = result.shape[0] // 2
    width, channels = a.shape[1], a.shape[3]
    noisy = noise.shape[0] > 0
    for out_row in range(2 * first_row, 2 * last_row):
        k, odd = out_row // 2, out_row % 2
        here = k - first_row + 1
        above = here - 1 if k > 0 else here
        below = here + 1 if k < height - 1 else here
        mid0 = here if odd else above  # the second tap's two samples
        mid1 = below if odd else here
        p = _bilinear_taps(odd, out_row == 0, out_row == 2 * height - 1)
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
            n0 = noise[out_row, 2 * x] if noisy else np.float32(0)
            n1 = noise[out_row, 2 * x + 1] if noisy else np.float32(0)
            for c in range(channels):
                l0, h0 = line[left, 0, c], line[x, 0, c]
                l1, h1, r1 = line[left, 1, c], line[x, 1, c], line[right, 1, c]
                h2, r2 = line[x, 2, c], line[right, 2, c]
                even = e[0] * l0 + e[1] * h0 + e[2] * l1 + e[3] * h1 + e[4] * h2 + e[5] * r2
                odds = o[0] * l0 + o[1] * h0 + o[2] * h1 + o[3] * r1 + o[4] * h2 + o[5] * r2
                result[out_row, 2 * x, c] = apply_epilogue(even, scale[c], bias[c] + n0, slope[c])
                result[out_row, 2 * x + 1, c] = apply_epilogue(
                    odds, scale[c], bias[c] + n1, slope[c]
                )


@inlined
def _bt(a: float, b: float, c: float, d: float, e: float, f: float) -> Any:
    """Multiply six input samples by the paper's transposed B."""
    return (
        _4 * a - _5 * c + e,
        d + e - _4 * (b + c),
        _4 * (b - c) - d + e,
        _2 * (d - b) - c + e,
        _2 * (b - d) - c + e,
        _4 * b - _5 * d + f,
    )


@inlined
def _at(a: float, b: float, c: float, d: float, e: float, f: float) -> Any:
    """Multiply six products by the paper's transposed A: four output samples."""
    even, odd = b + c, b - c
    even2, odd2 = d + e, d - e
    return (a + even + even2, odd + _2 * odd2, even + _4 * even2, odd + _8 * odd2 + f)


@kernel
def _transform_input(pixels: Array, scale: Array, first: int, reflected: bool, v: Array) -> None:
    """Transform tiles of pixels, scaled, into `v` (36, tiles, C).

    Beyond the border are zeros, or the image, reflected.
    """
    height, width, channels = pixels.shape
    across = width // 4
    d = np.empty((6, 6, channels), np.float32)
    for tile in range(v.shape[1]):
        top = 4 * ((first + tile) // across) - 1
        left = 4 * ((first + tile) % across) - 1
        for i in range(6):
            for j in range(6):
                y, x = top + i, left + j
                if reflected:
                    y = height - 1 - abs(height - 1 - abs(y))
                    x = width - 1 - abs(width - 1 - abs(x))
                if 0 <= y < height and 0 <= x < width:
                    for c in range(channels):
                        d[i, j, c] = pixels[y, x, c] * scale[c]
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


@kernel
def _transform_output(
    m: Array, scale: Array, bias: Array, slope: Array, noise: Array, first: int, result: Array
) -> None:
    """Transform products (36, tiles, C) into tiles of the (H, W, C) result, epilogue included."""
    _, width, channels = result.shape
    across = width // 4
    noisy = noise.shape[0] > 0
    d = np.empty((4, 6, channels), np.float32)
    for tile in range(m.shape[1]):
        top = 4 * ((first + tile) // across)
        left = 4 * ((first + tile) % across)
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
            y = top + i
            n0 = noise[y, left] if noisy else np.float32(0)
            n1 = noise[y, left + 1] if noisy else np.float32(0)
            n2 = noise[y, left + 2] if noisy else np.float32(0)
            n3 = noise[y, left + 3] if noisy else np.float32(0)
            for c in range(channels):
                r = _at(d[i, 0, c], d[i, 1, c], d[i, 2, c], d[i, 3, c], d[i, 4, c], d[i, 5, c])
                s, b, k = scale[c], bias[c], slope[c]
                result[y, left, c] = apply_epilogue(r[0], s, b + n0, k)
                result[y, left + 1, c] = apply_epilogue(r[1], s, b + n1, k)
                result[y, left + 2, c] = apply_epilogue(r[2], s, b + n2, k)
                result[y, left + 3, c] = apply_epilogue(r[3], s, b + n3, k)
