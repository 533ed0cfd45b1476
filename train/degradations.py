"""The degradation model of GFPGAN: blur, downsampling, noise, JPEG, then color and grayscale.

Source: arXiv 2101.04061, section 4.1; the second order is Real-ESRGAN's (arXiv 2107.10833, section
3). Functions are pure: they take and return images, and draw from the random generator given. Units
are pixels and gray levels of the full-size crop.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core.images import ImageU8, gray
from train.degradation_config import DegradationConfig
from train.kernels import Axes, blur_kernel, generalized_kernel, plateau_kernel, ringing_kernel


def blur(
    image: ImageU8,
    sigma_px: tuple[float, float],
    config: DegradationConfig,
    rng: np.random.Generator,
) -> ImageU8:
    """Blur with a random kernel of one of the shapes that the configuration allows."""
    if _happens(config.sinc_share, rng):
        return convolve(image, ringing_kernel(rng.uniform(*config.ringing_cutoff)))
    sigma_x = draw(sigma_px, rng, config.distribution)
    sigma_y = draw(sigma_px, rng, config.distribution)
    turn = rng.uniform(-math.pi, math.pi)
    if rng.random() >= config.anisotropic_share:
        sigma_y = sigma_x
    axes = Axes(sigma_x, sigma_y, turn)
    shaped = config.generalized_share + config.plateau_share
    shape = rng.random() if shaped else 1.0
    if shape >= shaped:
        return convolve(image, blur_kernel(axes))
    generalized = shape < config.generalized_share
    low, high = (0.5, 4.0) if generalized else (1.0, 2.0)
    # As often below 1 as above: flat and pointed kernels.
    beta = rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)
    kernel = generalized_kernel if generalized else plateau_kernel
    return convolve(image, kernel(axes, beta))


def draw(bounds: tuple[float, float], rng: np.random.Generator, distribution: str) -> float:
    """Draw a number between the bounds; `log_uniform` needs them above 0."""
    if distribution == "log_uniform":
        return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))
    return rng.uniform(*bounds)


def convolve(image: ImageU8, kernel: NDArray[np.float32]) -> ImageU8:
    """Filter the image, mirrored at its borders."""
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def downsample(image: ImageU8, factor: float, interpolation: int = cv2.INTER_LINEAR) -> ImageU8:
    """Reduce the image by the factor, bilinearly as in the paper: it may alias, as phones do."""
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
    """Add Gaussian noise of `sigma` gray levels, and round.

    Shot noise has that strength at mid-gray, and a variance in proportion to the light.
    """
    shape = (*image.shape[:2], 1) if same_in_channels else image.shape
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(sigma)
    if shot:
        noise = noise * np.sqrt(image.astype(np.float32) / 127.5)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def add_chroma_noise(
    image: ImageU8, sigma: float, spot_px: float, rng: np.random.Generator
) -> ImageU8:
    """Add noise of color alone: `sigma` gray levels in Cb and in Cr, luma unchanged.

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
    """Return the RGB image after a JPEG round trip."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # our own bytes
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)


def color_jitter(image: ImageU8, config: DegradationConfig, rng: np.random.Generator) -> ImageU8:
    """Change brightness, contrast, saturation and hue, in random order."""
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
    prefix: str,
    full_side_px: int,
    rng: np.random.Generator,
) -> ImageU8:
    """Blur, resample and add noise once, by the ranges whose names begin with `prefix`.

    Blur and reduction count in pixels of the full-size image, `full_side_px` high, also where the
    image has been reduced before. A step that is switched off draws nothing, so that later draws
    stay the same.
    """
    factor = _draw_factor(config, prefix, rng)
    blurred_first = not _happens(config.reduce_first_probability, rng)
    if blurred_first:
        image = _blur_maybe(image, config, prefix, full_side_px / image.shape[0], rng)
    sigma = draw(getattr(config, prefix + "noise_sigma"), rng, config.distribution)
    if _happens(config.early_noise_probability, rng):
        image = _with_noise(image, sigma / 2, config, rng)
    again = factor * image.shape[0] / full_side_px  # relative to the image as it is now
    area = again > 1 and _happens(config.area_probability, rng)
    image = downsample(image, again, cv2.INTER_AREA if area else cv2.INTER_LINEAR)
    if not blurred_first:
        image = _blur_maybe(image, config, prefix, full_side_px / image.shape[0], rng)
    return _with_noise(image, sigma, config, rng)


def _draw_factor(config: DegradationConfig, prefix: str, rng: np.random.Generator) -> float:
    """Draw how much smaller than the full size the image gets; below 1 larger."""
    low, high = getattr(config, prefix + "downsample_factor")
    enlarge = getattr(config, prefix + "enlarge_probability")
    keep = getattr(config, prefix + "keep_size_probability")
    if enlarge or keep:
        chosen = rng.random()
        if chosen < keep:
            return 1.0
        low, high = (low, 1.0) if chosen < keep + enlarge else (max(low, 1.0), high)
    return draw((low, high), rng, config.distribution)


def _compress(
    image: ImageU8, config: DegradationConfig, prefix: str, rng: np.random.Generator
) -> ImageU8:
    if config.jpeg_probability < 1 and not _happens(config.jpeg_probability, rng):
        return image
    low, high = getattr(config, prefix + "jpeg_quality")
    return jpeg(image, int(rng.integers(low, high, endpoint=True)))


def _ring_and_compress(
    image: ImageU8, config: DegradationConfig, prefix: str, rng: np.random.Generator
) -> ImageU8:
    """Compress for the last time, with a sinc filter before or after it."""
    if not _happens(config.ringing_probability, rng):
        return _compress(image, config, prefix, rng)
    kernel = ringing_kernel(rng.uniform(*config.ringing_cutoff))
    if _happens(config.ringing_after_jpeg_share, rng):
        return convolve(_compress(image, config, prefix, rng), kernel)
    return _compress(convolve(image, kernel), config, prefix, rng)


def _happens(probability: float, rng: np.random.Generator) -> bool:
    """Draw whether something happens; nothing is drawn for what is switched off."""
    return bool(probability) and rng.random() < probability


def _blur_maybe(
    image: ImageU8,
    config: DegradationConfig,
    prefix: str,
    reduction: float,
    rng: np.random.Generator,
) -> ImageU8:
    """Return the image, perhaps blurred; `reduction` is the factor it has been reduced by."""
    if rng.random() >= getattr(config, prefix + "blur_probability"):
        return image
    low, high = getattr(config, prefix + "blur_sigma_px")
    return blur(image, (low / reduction, high / reduction), config, rng)


def _with_noise(
    image: ImageU8, sigma: float, config: DegradationConfig, rng: np.random.Generator
) -> ImageU8:
    if _happens(config.chroma_noise_share, rng):
        return add_chroma_noise(image, sigma, rng.uniform(2, 4), rng)
    same = _happens(config.grey_noise_share, rng)
    shot = _happens(config.poisson_share, rng)
    return add_noise(image, sigma, rng, same_in_channels=same, shot=shot)


def _degrade_slightly(gt: ImageU8, config: DegradationConfig, rng: np.random.Generator) -> ImageU8:
    """Return a nearly clean input: a weak blur, weak noise, a good JPEG."""
    lq = blur(gt, config.clean_blur_sigma_px, config, rng)
    lq = add_noise(lq, rng.uniform(*config.clean_noise_sigma), rng)
    low, high = config.clean_jpeg_quality
    return jpeg(lq, int(rng.integers(low, high, endpoint=True)))


def degrade(
    gt: ImageU8, config: DegradationConfig, rng: np.random.Generator
) -> tuple[ImageU8, ImageU8]:
    """Return the degraded crop and its ground truth, both the size of `gt` (H, W, 3) RGB.

    The ground truth differs from `gt` only where both are made gray. `gt` isn't modified.
    """
    height, width = gt.shape[:2]
    if _happens(config.clean_probability, rng):
        lq = _degrade_slightly(gt, config, rng)
    else:
        lq = degrade_once(gt, config, "", height, rng)
        prefix = ""
        if _happens(config.second_probability, rng):
            lq = degrade_once(_compress(lq, config, "", rng), config, "second_", height, rng)
            prefix = "second_"
        lq = _ring_and_compress(lq, config, prefix, rng)
    cubic = _happens(config.cubic_probability, rng)
    mode = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    lq = np.asarray(cv2.resize(lq, (width, height), interpolation=mode), np.uint8)
    if rng.random() < config.colour_shift_probability:
        shift = rng.uniform(-config.colour_shift, config.colour_shift, size=3)
        lq = np.clip(np.rint(lq + shift), 0, 255).astype(np.uint8)
    if rng.random() < config.colour_jitter_probability:
        lq = color_jitter(lq, config, rng)
    if rng.random() < config.grey_probability:
        return gray(lq), gray(gt)
    return lq, gt
