"""Blur kernels: Gaussians, their generalized and plateau forms, and the sinc filter that rings.

Source: Real-ESRGAN (arXiv 2107.10833, section 3.1 and 3.2). All are (side, side) float32 of sum 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

# The paper's kernel is 41 px wide at 512 px; 4 sigma of the largest blur would need 81.
KERNEL_SIDE_PX = 41

Kernel = NDArray[np.float32]


@dataclass(frozen=True)
class Axes:
    """The standard deviations of a blur along two axes, turned counterclockwise from x."""

    sigma_x_px: float
    sigma_y_px: float
    turn_radians: float = 0.0

    def squared_distance(self, side_px: int) -> NDArray[np.float64]:
        """Return (side, side) squared distances from the middle, in standard deviations."""
        x, y = _grid(side_px)
        cos, sin = math.cos(self.turn_radians), math.sin(self.turn_radians)
        along, across = cos * x + sin * y, cos * y - sin * x
        squared: NDArray[np.float64] = (along / self.sigma_x_px) ** 2
        return squared + (across / self.sigma_y_px) ** 2


def blur_kernel(axes: Axes, side_px: int = KERNEL_SIDE_PX) -> Kernel:
    """Return a Gaussian."""
    return _normalized(np.exp(-0.5 * axes.squared_distance(side_px)))


def generalized_kernel(axes: Axes, beta: float, side_px: int = KERNEL_SIDE_PX) -> Kernel:
    """Return exp(-d ** (2 beta) / 2): flatter than a Gaussian above 1, more pointed below."""
    return _normalized(np.exp(-0.5 * axes.squared_distance(side_px) ** beta))


def plateau_kernel(axes: Axes, beta: float, side_px: int = KERNEL_SIDE_PX) -> Kernel:
    """Return 1 / (1 + d ** (2 beta)): a flat top with long tails."""
    return _normalized(1 / (1 + axes.squared_distance(side_px) ** beta))


def ringing_kernel(cutoff: float, side_px: int = 21) -> Kernel:
    """Return the ideal low-pass filter, circular in frequency: it rings at edges.

    `cutoff` is the angular frequency above which it cuts, in radians a pixel.
    """
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


def _normalized(kernel: NDArray[np.float64]) -> Kernel:
    return (kernel / kernel.sum()).astype(np.float32)
