"""The degradation model of GFPGAN: blur, downsampling, noise, JPEG, then colour and grey.

Source: arXiv 2101.04061, section 4.1; the second order is Real-ESRGAN's (arXiv 2107.10833, section
3). Pure functions: images in and out, every draw from the generator that is handed in. Units are
pixels and grey levels of the full-size crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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
    """Ranges to draw from, both ends included. The defaults are the paper's."""

    distribution: Literal["uniform", "log_uniform"] = "uniform"
    """How blur, reduction and noise are drawn; log_uniform draws each order of magnitude alike."""
    clean_probability: float = 0.0
    """Nearly clean inputs, which a network must leave alone: ranges below, no reduction."""
    clean_blur_sigma_px: tuple[float, float] = (0.1, 0.8)
    clean_noise_sigma: tuple[float, float] = (0.0, 2.0)
    clean_jpeg_quality: tuple[int, int] = (80, 100)
    blur_probability: float = 1.0
    anisotropic_share: float = 0.5
    """Share of the blurs with two different sigmas and a turn."""
    blur_sigma_px: tuple[float, float] = (0.1, 10.0)
    downsample_factor: tuple[float, float] = (0.8, 8.0)
    """Below 1 enlarges."""
    reduce_first_probability: float = 0.0
    """Reduction before the blur: a small photo out of focus, not a reduced one."""
    area_probability: float = 0.0
    """Reduction by area averaging, which doesn't alias, instead of bilinearly."""
    cubic_probability: float = 0.0
    """Enlarging to the old size bicubically instead of bilinearly."""
    early_noise_probability: float = 0.0
    """Noise of half the strength before the reduction as well: the sensor's, not the screen's."""
    noise_sigma: tuple[float, float] = (0.0, 20.0)
    """Standard deviation in grey levels of 0..255."""
    jpeg_probability: float = 1.0
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
    chroma_noise_share: float = 0.0
    """Share of the noises that are of color alone, in spots of 2 to 4 px: blotches."""
    second_probability: float = 0.0
    """Blur, resampling, noise and JPEG once more: a photo that was shared twice."""
    second_blur_sigma_px: tuple[float, float] = (0.1, 5.0)
    second_downsample_factor: tuple[float, float] = (0.8, 3.0)
    """Relative to the full size, as everywhere: it may enlarge what the first round reduced."""
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
            if self.distribution == "log_uniform" and getattr(self, prefix + "noise_sigma")[0] <= 0:
                raise InputError(f"{prefix}noise_sigma must be above 0 to be drawn log-uniformly")
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
    distribution: str = "uniform",
) -> ImageU8:
    """The image under a random isotropic or anisotropic Gaussian."""
    sigma_x, sigma_y = draw(sigma_px, rng, distribution), draw(sigma_px, rng, distribution)
    turn = rng.uniform(-math.pi, math.pi)
    if rng.random() >= anisotropic_share:
        sigma_y = sigma_x
    return convolve(image, blur_kernel(sigma_x, sigma_y, turn))


def draw(bounds: tuple[float, float], rng: np.random.Generator, distribution: str) -> float:
    """A number between the bounds; `log_uniform` needs them above 0."""
    if distribution == "log_uniform":
        return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))
    return rng.uniform(*bounds)


def convolve(image: ImageU8, kernel: NDArray[np.float32]) -> ImageU8:
    """The image filtered, mirrored at its borders."""
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def downsample(image: ImageU8, factor: float, interpolation: int = cv2.INTER_LINEAR) -> ImageU8:
    """The image reduced by the factor, bilinearly as in the paper: it may alias, as phones do."""
    height, width = image.shape[:2]
    size_wh = (max(1, round(width / factor)), max(1, round(height / factor)))
    return np.asarray(cv2.resize(image, size_wh, interpolation=interpolation), np.uint8)


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


def add_chroma_noise(
    image: ImageU8, sigma: float, spot_px: float, rng: np.random.Generator
) -> ImageU8:
    """The image plus noise of color alone: `sigma` grey levels in Cb and in Cr, luma unchanged.

    Its spots are about `spot_px` wide, as a camera's denoiser and JPEG's reduced chroma leave them.
    """
    height, width = image.shape[:2]
    small = (max(1, round(height / spot_px)), max(1, round(width / spot_px)), 2)
    noise = rng.standard_normal(small, dtype=np.float32)
    noise = np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))
    cb, cr = np.moveaxis(noise / max(float(noise.std()), 1e-6) * np.float32(sigma), 2, 0)
    shift = np.stack([1.402 * cr, -0.344136 * cb - 0.714136 * cr, 1.772 * cb], axis=2)  # BT.601
    return np.clip(np.rint(image + shift), 0, 255).astype(np.uint8)


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


def degrade_once(
    image: ImageU8,
    config: DegradationConfig,
    order: str,
    full_side_px: int,
    rng: np.random.Generator,
) -> ImageU8:
    """Blur, resampling, noise and JPEG once; `order` is the prefix of the ranges' names.

    Blur and reduction count in pixels of the full-size image, `full_side_px` high, also where the
    image has been reduced before. What is switched off draws nothing, so that it doesn't change
    the draws after it.
    """
    factor = draw(getattr(config, order + "downsample_factor"), rng, config.distribution)
    blurred_first = not _happens(config.reduce_first_probability, rng)
    if blurred_first:
        image = _blur_maybe(image, config, order, full_side_px, rng)
    sigma = draw(getattr(config, order + "noise_sigma"), rng, config.distribution)
    if _happens(config.early_noise_probability, rng):
        image = _with_noise(image, sigma / 2, config, rng)
    again = factor * image.shape[0] / full_side_px  # relative to the image as it is now
    area = again > 1 and _happens(config.area_probability, rng)
    image = downsample(image, again, cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    if not blurred_first:
        image = _blur_maybe(image, config, order, full_side_px, rng)
    image = _with_noise(image, sigma, config, rng)
    if _happens(config.ringing_probability, rng):
        image = convolve(image, ringing_kernel(rng.uniform(*config.ringing_cutoff)))
    if config.jpeg_probability < 1 and not _happens(config.jpeg_probability, rng):
        return image
    low, high = getattr(config, order + "jpeg_quality")
    return jpeg(image, int(rng.integers(low, high, endpoint=True)))


def _happens(probability: float, rng: np.random.Generator) -> bool:
    """Never draws for what is switched off."""
    return bool(probability) and rng.random() < probability


def _blur_maybe(
    image: ImageU8,
    config: DegradationConfig,
    order: str,
    full_side_px: int,
    rng: np.random.Generator,
) -> ImageU8:
    if rng.random() >= config.blur_probability:
        return image
    reduction = full_side_px / image.shape[0]
    low, high = getattr(config, order + "blur_sigma_px")
    bounds = low / reduction, high / reduction
    return blur(image, bounds, config.anisotropic_share, rng, config.distribution)


def _with_noise(
    image: ImageU8, sigma: float, config: DegradationConfig, rng: np.random.Generator
) -> ImageU8:
    if _happens(config.chroma_noise_share, rng):
        return add_chroma_noise(image, sigma, rng.uniform(2, 4), rng)
    same = _happens(config.grey_noise_share, rng)
    shot = _happens(config.poisson_share, rng)
    return add_noise(image, sigma, rng, same_in_channels=same, shot=shot)


def _degrade_slightly(gt: ImageU8, config: DegradationConfig, rng: np.random.Generator) -> ImageU8:
    """The nearly clean input: a weak blur, weak noise, a good JPEG."""
    lq = blur(gt, config.clean_blur_sigma_px, config.anisotropic_share, rng, config.distribution)
    lq = add_noise(lq, rng.uniform(*config.clean_noise_sigma), rng)
    low, high = config.clean_jpeg_quality
    return jpeg(lq, int(rng.integers(low, high, endpoint=True)))


def degrade(
    gt: ImageU8, config: DegradationConfig, rng: np.random.Generator
) -> tuple[ImageU8, ImageU8]:
    """The degraded crop and its ground truth, both the size of `gt` (H, W, 3) RGB.

    The ground truth differs from `gt` only where both are made grey. `gt` isn't modified.
    """
    height, width = gt.shape[:2]
    if _happens(config.clean_probability, rng):
        lq = _degrade_slightly(gt, config, rng)
    else:
        lq = degrade_once(gt, config, "", height, rng)
        if _happens(config.second_probability, rng):
            lq = degrade_once(lq, config, "second_", height, rng)
    cubic = _happens(config.cubic_probability, rng)
    mode = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    lq = np.asarray(cv2.resize(lq, (width, height), interpolation=mode), np.uint8)
    if rng.random() < config.colour_shift_probability:
        shift = rng.uniform(-config.colour_shift, config.colour_shift, size=3)
        lq = np.clip(np.rint(lq + shift), 0, 255).astype(np.uint8)
    if rng.random() < config.colour_jitter_probability:
        lq = colour_jitter(lq, config, rng)
    if rng.random() < config.grey_probability:
        return grey(lq), grey(gt)
    return lq, gt
