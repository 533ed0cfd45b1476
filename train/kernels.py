"""Blur kernels: Gaussians, their generalized and plateau forms, and the sinc filter that rings.

Source: Real-ESRGAN (arXiv 2107.10833, section 3.1 and 3.2). All are (side, side) float32 of sum 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

# The paper's kernel is 41 px wide at 512 px; 4 sigma of the largest blur would need 81.
KERNEL_SIDE_PX = 41

Kernel = NDArray[np.float32]


def blur_kernel(
    sigma_x_px: float, sigma_y_px: float, turn_radians: float, side_px: int = KERNEL_SIDE_PX
) -> Kernel:
    """Return a Gaussian whose axes are turned anticlockwise from x by the angle."""
    kernel = np.exp(-0.5 * _squared_distance(sigma_x_px, sigma_y_px, turn_radians, side_px))
    return _normalized(kernel)


def generalized_kernel(
    sigma_x_px: float,
    sigma_y_px: float,
    turn_radians: float,
    beta: float,
    side_px: int = KERNEL_SIDE_PX,
) -> Kernel:
    """Return exp(-d ** (2 beta) / 2): flatter than a Gaussian above 1, more pointed below."""
    squared = _squared_distance(sigma_x_px, sigma_y_px, turn_radians, side_px)
    return _normalized(np.exp(-0.5 * squared**beta))


def plateau_kernel(
    sigma_x_px: float,
    sigma_y_px: float,
    turn_radians: float,
    beta: float,
    side_px: int = KERNEL_SIDE_PX,
) -> Kernel:
    """Return 1 / (1 + d ** (2 beta)): a flat top with long tails."""
    squared = _squared_distance(sigma_x_px, sigma_y_px, turn_radians, side_px)
    return _normalized(1 / (1 + squared**beta))


def ringing_kernel(cutoff: float, side_px: int = 21) -> Kernel:
    """Return the ideal low-pass filter, round in frequency: it rings at edges."""
    x, y = _grid(side_px)
    distance = np.hypot(x, y)
    radius = side_px // 2
    distance[radius, radius] = 1  # the limit there is set below
    kernel = cutoff * j1(cutoff * distance) / (2 * math.pi * distance)
    kernel[radius, radius] = cutoff**2 / (4 * math.pi)
    return _normalized(kernel)


def _grid(side_px: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    radius = side_px // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    return x, y


def _squared_distance(
    sigma_x_px: float, sigma_y_px: float, turn_radians: float, side_px: int
) -> NDArray[np.float64]:
    """In standard deviations along the turned axes."""
    x, y = _grid(side_px)
    cos, sin = math.cos(turn_radians), math.sin(turn_radians)
    along, across = cos * x + sin * y, cos * y - sin * x
    squared: NDArray[np.float64] = (along / sigma_x_px) ** 2 + (across / sigma_y_px) ** 2
    return squared


def _normalized(kernel: NDArray[np.float64]) -> Kernel:
    return (kernel / kernel.sum()).astype(np.float32)
