"""The degradation model of GFPGAN: blur, downsampling, noise, JPEG, then colour and grey.

Source: arXiv 2101.04061, section 4.1; the second order is Real-ESRGAN's (arXiv 2107.10833, section
3). Pure functions: images in and out, every draw from the generator that is handed in. Units are
pixels and grey levels of the full-size crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8, grey

# The paper's kernel is 41 px wide at 512 px; 4 sigma of the largest blur would need 81.
_KERNEL_SIDE_PX = 41


@dataclass(frozen=True)
class DegradationConfig:
    """Ranges to draw from, uniformly, both ends included. The defaults are the paper's."""

    blur_probability: float = 1.0
    anisotropic_share: float = 0.5
    """Share of the blurs with two different sigmas and a turn."""
    blur_sigma_px: tuple[float, float] = (0.1, 10.0)
    downsample_factor: tuple[float, float] = (0.8, 8.0)
    """Below 1 enlarges."""
    noise_sigma: tuple[float, float] = (0.0, 20.0)
    """Standard deviation in grey levels of 0..255."""
    jpeg_quality: tuple[int, int] = (60, 100)
    colour_shift_probability: float = 0.3
    colour_shift: float = 20.0
    """Largest shift of a channel, in grey levels; the ground truth keeps its colours."""
    colour_jitter_probability: float = 0.3
    brightness: tuple[float, float] = (0.5, 1.5)
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.0, 1.5)
    hue_degrees: tuple[float, float] = (-36.0, 36.0)
    poisson_share: float = 0.0
    """Share of the noises that are shot noise: stronger where it is light."""
    grey_noise_share: float = 0.0
    """Share of the noises that are the same in all channels."""
    second_probability: float = 0.0
    """Blur, resampling, noise and JPEG once more: a photo that was shared twice."""
    second_blur_sigma_px: tuple[float, float] = (0.1, 5.0)
    second_downsample_factor: tuple[float, float] = (0.8, 3.0)
    second_noise_sigma: tuple[float, float] = (0.0, 15.0)
    second_jpeg_quality: tuple[int, int] = (40, 95)
    ringing_probability: float = 0.0
    """A sinc filter before the last JPEG: the halos of resampled and sharpened photos."""
    ringing_cutoff: tuple[float, float] = (math.pi / 3, math.pi)
    """Angular frequency above which the sinc filter cuts, in radians a pixel."""
    grey_probability: float = 0.01
    """A grey input has a grey ground truth as well: the network learns to keep grey photos grey."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name.endswith(("_probability", "_share")) and not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; allowed: 0 to 1")
            if isinstance(value, tuple) and (len(value) != 2 or value[0] > value[1]):
                raise InputError(f"{name} is {value}; allowed: two numbers, the smaller first")
        for prefix in ("", "second_"):
            for name in ("blur_sigma_px", "downsample_factor"):
                if getattr(self, prefix + name)[0] <= 0:
                    raise InputError(f"{prefix}{name} must be above 0")
            low, high = getattr(self, prefix + "jpeg_quality")
            if not 1 <= low <= high <= 100:
                raise InputError(f"{prefix}jpeg_quality is {(low, high)}; allowed: 1 to 100")
            if getattr(self, prefix + "noise_sigma")[0] < 0:
                raise InputError(f"{prefix}noise_sigma must not be negative")
        if not 0 < self.ringing_cutoff[0] <= self.ringing_cutoff[1] <= math.pi:
            raise InputError(f"ringing_cutoff is {self.ringing_cutoff}; allowed: 0 to pi")


PRESETS: dict[str, DegradationConfig] = {
    "paper": DegradationConfig(),
    # Real-ESRGAN's order and probabilities; the ranges are widths at 512 px, as the paper's.
    "second_order": DegradationConfig(
        downsample_factor=(0.8, 6.0),
        noise_sigma=(0.0, 20.0),
        jpeg_quality=(40, 95),
        poisson_share=0.5,
        grey_noise_share=0.4,
        second_probability=0.8,
        ringing_probability=0.3,
    ),
}


def blur_kernel(
    sigma_x_px: float, sigma_y_px: float, turn_radians: float, side_px: int = _KERNEL_SIDE_PX
) -> NDArray[np.float32]:
    """(side, side) Gaussian of sum 1 whose axes are turned anticlockwise from x by the angle."""
    radius = side_px // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    cos, sin = math.cos(turn_radians), math.sin(turn_radians)
    along, across = cos * x + sin * y, cos * y - sin * x
    kernel = np.exp(-0.5 * ((along / sigma_x_px) ** 2 + (across / sigma_y_px) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def ringing_kernel(cutoff: float, side_px: int = 21) -> NDArray[np.float32]:
    """(side, side) ideal low-pass filter, round in frequency, of sum 1: it rings at edges."""
    radius = side_px // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    distance = np.hypot(x, y)
    distance[radius, radius] = 1  # the limit there is set below
    kernel = cutoff * j1(cutoff * distance) / (2 * math.pi * distance)
    kernel[radius, radius] = cutoff**2 / (4 * math.pi)
    return (kernel / kernel.sum()).astype(np.float32)


def blur(
    image: ImageU8,
    sigma_px: tuple[float, float],
    anisotropic_share: float,
    rng: np.random.Generator,
) -> ImageU8:
    """The image under a random isotropic or anisotropic Gaussian."""
    sigma_x, sigma_y = rng.uniform(*sigma_px, size=2)
    turn = rng.uniform(-math.pi, math.pi)
    if rng.random() >= anisotropic_share:
        sigma_y = sigma_x
    return convolve(image, blur_kernel(sigma_x, sigma_y, turn))


def convolve(image: ImageU8, kernel: NDArray[np.float32]) -> ImageU8:
    """The image filtered, mirrored at its borders."""
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def downsample(image: ImageU8, factor: float) -> ImageU8:
    """The image reduced by the factor, bilinearly as in the paper: it may alias, as phones do."""
    height, width = image.shape[:2]
    size_wh = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR), np.uint8)


def add_noise(
    image: ImageU8,
    sigma: float,
    rng: np.random.Generator,
    *,
    same_in_channels: bool = False,
    shot: bool = False,
) -> ImageU8:
    """The image plus Gaussian noise of `sigma` grey levels, rounded.

    Shot noise has that strength at mid-grey, and a variance in proportion to the light.
    """
    shape = (*image.shape[:2], 1) if same_in_channels else image.shape
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)
    if shot:
        noise = noise * np.sqrt(image.astype(np.float32) / 127.5)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def jpeg(image: ImageU8, quality: int) -> ImageU8:
    """The RGB image after a JPEG round trip."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # our own bytes
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def colour_jitter(image: ImageU8, config: DegradationConfig, rng: np.random.Generator) -> ImageU8:
    """Brightness, contrast, saturation and hue changed, in random order."""
    pixels = image.astype(np.float32) / 255
    for change in rng.permutation(4):
        if change == 0:
            pixels = pixels * rng.uniform(*config.brightness)
        elif change == 1:
            mean = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).mean()
            pixels = mean + (pixels - mean) * rng.uniform(*config.contrast)
        elif change == 2:
            luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
            pixels = luma + (pixels - luma) * rng.uniform(*config.saturation)
        else:
            hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)  # float hue: degrees
            hsv[..., 0] = (hsv[..., 0] + rng.uniform(*config.hue_degrees)) % 360
            pixels = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)
        pixels = np.clip(pixels, 0, 1).astype(np.float32)
    return np.rint(pixels * 255).astype(np.uint8)


def _damage(
    image: ImageU8,
    config: DegradationConfig,
    order: str,
    rng: np.random.Generator,
) -> ImageU8:
    """Blur, resampling, noise and JPEG once; `order` is the prefix of the ranges' names."""
    if rng.random() < config.blur_probability:
        sigma_px = getattr(config, order + "blur_sigma_px")
        image = blur(image, sigma_px, config.anisotropic_share, rng)
    image = downsample(image, rng.uniform(*getattr(config, order + "downsample_factor")))
    sigma = rng.uniform(*getattr(config, order + "noise_sigma"))
    same = bool(config.grey_noise_share) and rng.random() < config.grey_noise_share
    shot = bool(config.poisson_share) and rng.random() < config.poisson_share
    image = add_noise(image, sigma, rng, same_in_channels=same, shot=shot)
    if config.ringing_probability and rng.random() < config.ringing_probability:
        image = convolve(image, ringing_kernel(rng.uniform(*config.ringing_cutoff)))
    low, high = getattr(config, order + "jpeg_quality")
    return jpeg(image, int(rng.integers(low, high, endpoint=True)))


def degrade(
    gt: ImageU8, config: DegradationConfig, rng: np.random.Generator
) -> tuple[ImageU8, ImageU8]:
    """The degraded crop and its ground truth, both the size of `gt` (H, W, 3) RGB.

    The ground truth differs from `gt` only where both are made grey. `gt` isn't modified.
    """
    height, width = gt.shape[:2]
    lq = _damage(gt, config, "", rng)
    # `and`: what is switched off draws nothing, so that it doesn't change the draws after it.
    if config.second_probability and rng.random() < config.second_probability:
        lq = _damage(lq, config, "second_", rng)
    lq = np.asarray(cv2.resize(lq, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < config.colour_shift_probability:
        shift = rng.uniform(-config.colour_shift, config.colour_shift, size=3)
        lq = np.clip(np.rint(lq + shift), 0, 255).astype(np.uint8)
    if rng.random() < config.colour_jitter_probability:
        lq = colour_jitter(lq, config, rng)
    if rng.random() < config.grey_probability:
        return grey(lq), grey(gt)
    return lq, gt
