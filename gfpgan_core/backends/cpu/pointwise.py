"""Operations on single pixels, in channels_last, on the threads of `threads`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gfpgan_core.backends.cpu.kernel import Array, kernel
from gfpgan_core.backends.cpu.threads import in_parallel, threads
from gfpgan_core.tiling import even_parts

_PARTS_A_THREAD = 4  # so that a thread that was late has less to catch up with


def _run_by_rows(work: Callable[[int, tuple[int, int]], None], count: int, height: int) -> None:
    """Call `work(n, (first_row, end_row))` for all rows of `count` images, in parallel."""
    rows = even_parts(height, -(-height // (_PARTS_A_THREAD * max(1, threads.count))))
    for n in range(count):
        in_parallel(partial(work, n), rows)


@threads.exclusive()
def convolve_1x1(image: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return `conv2d(image, weight, bias)` of (N, C_in, H, W) float32 and (C_out, C_in, 1, 1)."""
    pixels = image.permute(0, 2, 3, 1).contiguous().numpy()
    count, height, width, in_channels = pixels.shape
    matrix = np.ascontiguousarray(weight.detach().flatten(1).T.numpy())
    out_channels = matrix.shape[1]
    offset = np.zeros(out_channels, np.float32) if bias is None else bias.detach().numpy()
    result = np.empty((count, height, width, out_channels), np.float32)

    def work(n: int, rows: tuple[int, int]) -> None:
        samples = pixels[n, slice(*rows)].reshape(-1, in_channels)
        products = result[n, slice(*rows)].reshape(-1, out_channels)
        np.matmul(samples, matrix, out=products)
        products += offset

    _run_by_rows(work, count, height)
    return torch.from_numpy(result).permute(0, 3, 1, 2)


@threads.exclusive()
def to_few_channels(image: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Multiply each pixel of (N, C_in, H, W) by its image's weights and add the bias.

    Args:
        image: float32.
        weights: (N, C_out, C_in), of very few rows: a matrix product would not pay.
        bias: (C_out,).
    """
    pixels = image.permute(0, 2, 3, 1).contiguous().numpy()
    count, height, width, _ = pixels.shape
    result = np.empty((count, height, width, weights.shape[1]), np.float32)
    matrices, offset = weights.detach().contiguous().numpy(), bias.detach().numpy()

    def work(n: int, rows: tuple[int, int]) -> None:
        _project(pixels[n], matrices[n], offset, *rows, result[n])

    _run_by_rows(work, count, height)
    return torch.from_numpy(result).permute(0, 3, 1, 2)


@threads.exclusive()
def scale_and_shift_half(image: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Multiply the second half of the channels by `scale` and add `shift`, in place if possible.

    Args:
        image: (N, C, H, W), float32.
        scale: (N, C / 2, H, W), as `shift`.
    """
    pixels, factor, offset = (
        tensor.permute(0, 2, 3, 1).contiguous().numpy() for tensor in (image, scale, shift)
    )

    def work(n: int, rows: tuple[int, int]) -> None:
        _scale_and_shift(pixels[n], factor[n], offset[n], *rows)

    _run_by_rows(work, *pixels.shape[:2])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


@kernel
def _project(
    pixels: Array, matrix: Array, bias: Array, first: int, last: int, result: Array
) -> None:
    _, width, channels = pixels.shape
    for y in range(first, last):
        for x in range(width):
            for out in range(matrix.shape[0]):
                total = np.float32(0)
                for c in range(channels):
                    total += pixels[y, x, c] * matrix[out, c]
                result[y, x, out] = total + bias[out]


@kernel
def _scale_and_shift(pixels: Array, scale: Array, shift: Array, first: int, last: int) -> None:
    half = scale.shape[2]
    for y in range(first, last):
        for x in range(pixels.shape[1]):
            for c in range(half):
                pixels[y, x, half + c] = pixels[y, x, half + c] * scale[y, x, c] + shift[y, x, c]
