"""3x3 convolutions of float32 images padded by reflection that double or halve the image.

Doubled by repeating pixels: an even output of an axis is w0 a + (w1 + w2) b of two neighbors a and
b of the small image, an odd one (w0 + w1) b + w2 c. With S = w0 + w1 + w2, four outputs around b:

    S b + (w0 + w1)(a - b),  S b + w0 (a - b),  S b + w2 (c - b),  S b + (w1 + w2)(c - b)

Of every second pixel: two outputs of an axis see five pixels a, d, b, e, c, of which the middle one
b by w2 in one and by w0 in the other:

    (w0 + w2) b + w0 (a - b) + w1 d,  (w0 + w2) b + w2 (c - b) + w1 e

Five products an axis, so 25 for 4x4 pixels of a doubled image (plainly 144), or for 2x2 of a halved
one (plainly 36).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from gfpgan_core.backends.cpu.kernel import Array, apply_epilogue, kernel
from gfpgan_core.backends.cpu.threads import in_parallel, scratch_of, threads
from gfpgan_core.backends.cpu.winograd import Epilogue
from gfpgan_core.tiling import even_parts

# The five products of an axis: the taps that each sums, and the input that each takes.
_DOUBLING = torch.tensor(
    [[1.0, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 1], [0, 1, 1]], dtype=torch.float64
)
_DOUBLING_INPUTS = (0, 0, 1, 2, 2)  # of a - b, b, c - b
_HALVING = torch.tensor(
    [[1.0, 0, 0], [0, 1, 0], [1, 0, 1], [0, 1, 0], [0, 0, 1]], dtype=torch.float64
)
_HALVING_INPUTS = (0, 1, 2, 3, 4)  # of a - b, d, b, e, c - b

# Tiles that a thread takes at once: as many as stay in its cache.
_DOUBLED_TILES = 96
_HALVED_TILES = 48


def sum_taps(weight: Tensor, *, doubles: bool) -> Tensor:
    """Return (C_out, C_in, 3, 3) as (25, C_in, C_out), for the one function or for the other."""
    sums = _DOUBLING if doubles else _HALVING
    both = torch.kron(sums, sums).to(weight.dtype)
    taps = weight.detach().permute(2, 3, 1, 0).flatten(0, 1)
    return torch.tensordot(both, taps, dims=1).contiguous()


def repeat_and_convolve(image: Tensor, sums: Tensor, epilogue: Epilogue) -> Tensor:
    """Return `epilogue(conv2d(pad(repeated), weight))`, in channels_last.

    Args:
        image: (N, C_in, H, W), float32, sides divisible by 2; each pixel is repeated 2x2 times.
        sums: what `sum_taps` gives.
        epilogue: what follows, without noise.

    Returns:
        (N, C_out, 2 H, 2 W).
    """
    return _convolve_tiles(image, sums, epilogue, doubles=True)


def convolve_every_second(image: Tensor, sums: Tensor, epilogue: Epilogue) -> Tensor:
    """Return `epilogue(conv2d(pad(image), weight, stride=2))`, in channels_last.

    Args:
        image: (N, C_in, H, W), float32, sides divisible by 4.
        sums: what `sum_taps` gives.
        epilogue: what follows, without noise.

    Returns:
        (N, C_out, H / 2, W / 2).
    """
    return _convolve_tiles(image, sums, epilogue, doubles=False)


@threads.exclusive()
def _convolve_tiles(image: Tensor, sums: Tensor, epilogue: Epilogue, *, doubles: bool) -> Tensor:
    pixels = image.permute(0, 2, 3, 1).contiguous().numpy()
    count, height, width, in_channels = pixels.shape
    u = sums.numpy()
    out_channels = u.shape[2]
    if doubles:
        out_hw, axis_inputs = (2 * height, 2 * width), _DOUBLING_INPUTS
        tiles = (height // 2 + 1) * (width // 2 + 1)  # the first begins a pixel before the border
        at_once, take, add = _DOUBLED_TILES, _take_differences, _add_doubled
    else:
        out_hw, axis_inputs = (height // 2, width // 2), _HALVING_INPUTS
        tiles = height // 4 * (width // 4)
        at_once, take, add = _HALVED_TILES, _take_every_second, _add_halved
    side = max(axis_inputs) + 1
    inputs = [side * i + j for i in axis_inputs for j in axis_inputs]
    result = np.empty((count, *out_hw, out_channels), np.float32)

    def work(n: int, last: tuple[Array, Array, Array], part: tuple[int, int]) -> None:
        first, count = part[0], part[1] - part[0]
        split = side**2 * count * in_channels
        scratch = scratch_of(split + 25 * count * out_channels)
        v = scratch[:split].reshape(-1, count, in_channels)
        m = scratch[split:].reshape(25, count, out_channels)
        take(pixels[n], first, v)
        for product, source in enumerate(inputs):
            np.matmul(v[source], u[product], out=m[product])
        add(m, *last, first, result[n])

    parts = even_parts(tiles, min(at_once, -(-tiles // threads.count)))
    for n in range(count):
        in_parallel(partial(work, n, epilogue.for_image(n)[:3]), parts)
    return torch.from_numpy(result).permute(0, 3, 1, 2)


def compile_kernels() -> None:
    """Run each kernel of this module once."""
    image, weight = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3)
    epilogue = Epilogue(torch.ones(1, 1), torch.zeros(1), torch.ones(1))
    repeat_and_convolve(image, sum_taps(weight, doubles=True), epilogue)
    convolve_every_second(image, sum_taps(weight, doubles=False), epilogue)


@kernel
def _take_differences(pixels: Array, first: int, v: Array) -> None:
    """Take tiles around every second pixel of each axis into `v` (9, tiles, C).

    Beyond the border its pixels are repeated.
    """
    height, width, channels = pixels.shape
    across = width // 2 + 1
    for tile in range(v.shape[1]):
        y, x = 2 * ((first + tile) // across), 2 * ((first + tile) % across)
        # At the far border b itself is beyond it.
        top, middle, bottom = max(y - 1, 0), min(y, height - 1), min(y + 1, height - 1)
        left, center, right = max(x - 1, 0), min(x, width - 1), min(x + 1, width - 1)
        for c in range(channels):
            b = pixels[middle, center, c]
            above, below = pixels[top, center, c] - b, pixels[bottom, center, c] - b
            before, after = pixels[middle, left, c] - b, pixels[middle, right, c] - b
            v[4, tile, c] = b
            v[1, tile, c], v[7, tile, c] = above, below
            v[3, tile, c], v[5, tile, c] = before, after
            v[0, tile, c] = pixels[top, left, c] - b - above - before
            v[2, tile, c] = pixels[top, right, c] - b - above - after
            v[6, tile, c] = pixels[bottom, left, c] - b - below - before
            v[8, tile, c] = pixels[bottom, right, c] - b - below - after


@kernel
def _add_doubled(
    m: Array, scale: Array, bias: Array, slope: Array, first: int, result: Array
) -> None:
    """Add (25, tiles, C) products up to 4x4 pixels a tile of `result` (2 H, 2 W, C)."""
    height, width, channels = result.shape
    across = width // 4 + 1
    for tile in range(m.shape[1]):
        top, left = 4 * ((first + tile) // across) - 1, 4 * ((first + tile) % across) - 1
        for i in range(4):
            y = top + i
            row = 5 * i if i < 2 else 5 * i + 5
            if y < 0 or y >= height:
                continue
            for j in range(4):
                x = left + j
                column = j if j < 2 else j + 1
                if x < 0 or x >= width:
                    continue
                for c in range(channels):
                    total = (
                        m[row + column, tile, c]
                        + m[row + 2, tile, c]
                        + m[10 + column, tile, c]
                        + m[12, tile, c]
                    )
                    result[y, x, c] = apply_epilogue(total, scale[c], bias[c], slope[c])


@kernel
def _take_every_second(pixels: Array, first: int, v: Array) -> None:
    """Take tiles of 5x5 pixels into `v` (25, tiles, C).

    Beyond the near border is the image, reflected.
    """
    _, width, channels = pixels.shape
    across = width // 4
    d = np.empty((5, channels), np.float32)
    for tile in range(v.shape[1]):
        top, left = 4 * ((first + tile) // across) - 1, 4 * ((first + tile) % across) - 1
        for j in range(5):
            x = abs(left + j)
            for i in range(5):
                for c in range(channels):
                    d[i, c] = pixels[abs(top + i), x, c]
            for c in range(channels):
                b = d[2, c]
                v[j, tile, c], v[5 + j, tile, c], v[10 + j, tile, c] = d[0, c] - b, d[1, c], b
                v[15 + j, tile, c], v[20 + j, tile, c] = d[3, c], d[4, c] - b
        for i in range(0, 25, 5):
            for c in range(channels):
                v[i, tile, c] -= v[i + 2, tile, c]
                v[i + 4, tile, c] -= v[i + 2, tile, c]


@kernel
def _add_halved(
    m: Array, scale: Array, bias: Array, slope: Array, first: int, result: Array
) -> None:
    """Add (25, tiles, C) products up to 2x2 pixels a tile of `result` (H / 2, W / 2, C)."""
    _, width, channels = result.shape
    across = width // 2
    for tile in range(m.shape[1]):
        top, left = 2 * ((first + tile) // across), 2 * ((first + tile) % across)
        for i in range(2):
            for j in range(2):
                k = 10 * i + 2 * j  # the first of its 3x3 products
                for c in range(channels):
                    total = (
                        m[k, tile, c]
                        + m[k + 1, tile, c]
                        + m[k + 2, tile, c]
                        + m[k + 5, tile, c]
                        + m[k + 6, tile, c]
                        + m[k + 7, tile, c]
                        + m[k + 10, tile, c]
                        + m[k + 11, tile, c]
                        + m[k + 12, tile, c]
                    )
                    result[top + i, left + j, c] = apply_epilogue(
                        total, scale[c], bias[c], slope[c]
                    )
