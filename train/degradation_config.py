"""The ranges that degradations are drawn from, and named configurations.

Sources: GFPGAN (arXiv 2101.04061, section 4.1) and Real-ESRGAN (arXiv 2107.10833, section 3). Blur
and reduction are in pixels of the full-size crop, noise in gray levels of 0..255.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal

from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_SIZE_PX


@dataclass(frozen=True)
class DegradationConfig:
    """Ranges to draw from, both ends included. The defaults are the paper's.

    The fields' spelling stays (`colour`, `grey`), because users' configurations name them.
    """

    distribution: Literal["uniform", "log_uniform"] = "uniform"
    """How blur, reduction and noise are drawn; log_uniform draws each order of magnitude alike."""
    clean_probability: float = 0.0
    """Probability of a nearly clean input, which a network must leave alone: by the three ranges
    below, without reduction."""
    clean_blur_sigma_px: tuple[float, float] = (0.1, 0.8)
    clean_noise_sigma: tuple[float, float] = (0.0, 2.0)
    clean_jpeg_quality: tuple[int, int] = (80, 100)
    blur_probability: float = 1.0
    anisotropic_share: float = 0.5
    """Share of the blurs with two different sigmas and a turn."""
    generalized_share: float = 0.0
    """Share of the blurs with a generalized Gaussian, `beta` from 0.5 to 4."""
    plateau_share: float = 0.0
    """Share of the blurs with a plateau, `beta` from 1 to 2."""
    sinc_share: float = 0.0
    """Share of the blurs that are a sinc filter instead."""
    blur_sigma_px: tuple[float, float] = (0.1, 10.0)
    downsample_factor: tuple[float, float] = (0.8, 8.0)
    """Below 1 enlarges."""
    enlarge_probability: float = 0.0
    """Probability of a factor below 1; what this and `keep_size_probability` leave is that of a
    factor above 1. If both are 0, the factor is drawn from the whole range."""
    keep_size_probability: float = 0.0
    """Probability of a factor of exactly 1."""
    reduce_first_probability: float = 0.0
    """Probability of reducing before the blur, as in a small photo out of focus."""
    area_probability: float = 0.0
    """Probability of reducing by area averaging, which doesn't alias, instead of bilinearly."""
    cubic_probability: float = 0.0
    """Probability of enlarging to the old size bicubically instead of bilinearly."""
    early_noise_probability: float = 0.0
    """Probability of noise of half the strength before the reduction too, as a sensor's."""
    noise_sigma: tuple[float, float] = (0.0, 20.0)
    """Standard deviation in gray levels of 0..255."""
    jpeg_probability: float = 1.0
    jpeg_quality: tuple[int, int] = (60, 100)
    colour_shift_probability: float = 0.3
    colour_shift: float = 20.0
    """Largest shift of a channel, in gray levels; the ground truth keeps its colors."""
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
    """Probability of a second round of blur, resampling, noise and JPEG, as in a photo that was
    shared twice."""
    second_blur_probability: float = 0.8
    second_blur_sigma_px: tuple[float, float] = (0.1, 5.0)
    second_downsample_factor: tuple[float, float] = (0.8, 3.0)
    """Relative to the full size, as everywhere: it may enlarge what the first round reduced."""
    second_enlarge_probability: float = 0.0
    second_keep_size_probability: float = 0.0
    second_noise_sigma: tuple[float, float] = (0.0, 15.0)
    second_jpeg_quality: tuple[int, int] = (40, 95)
    ringing_probability: float = 0.0
    """Probability of a sinc filter before or after the last JPEG, which makes the halos of
    resampled and sharpened photos."""
    ringing_after_jpeg_share: float = 0.0
    """Share of those filters that follow the JPEG."""
    ringing_cutoff: tuple[float, float] = (math.pi / 3, math.pi)
    """Angular frequency above which the sinc filter cuts, in radians a pixel."""
    grey_probability: float = 0.01
    """Probability of a gray input with a gray ground truth: the network learns to keep gray photos
    gray."""

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


def _fixed(
    blur_sigma_px: float, downsample_factor: float, noise_sigma: float, jpeg_quality: int
) -> DegradationConfig:
    """Return the same strength for every photo, with its own colors."""
    return DegradationConfig(
        anisotropic_share=0,
        blur_sigma_px=(blur_sigma_px, blur_sigma_px),
        downsample_factor=(downsample_factor, downsample_factor),
        noise_sigma=(noise_sigma, noise_sigma),
        jpeg_quality=(jpeg_quality, jpeg_quality),
        colour_shift_probability=0,
        colour_jitter_probability=0,
        grey_probability=0,
    )


# The strengths that figures are reported at, for 512 px faces; `at_face_size` gives others.
STRENGTHS: dict[str, DegradationConfig] = {
    "mild": _fixed(1.5, 2.0, 5.0, 80),
    "medium": _fixed(3.0, 4.0, 10.0, 60),
    "heavy": _fixed(6.0, 8.0, 15.0, 40),
}

PRESETS: dict[str, DegradationConfig] = STRENGTHS | {
    "paper": DegradationConfig(),
    # Real-ESRGAN's order and probabilities (its options/train_realesrgan_x4plus.yml); the ranges
    # are widths at 512 px, as the paper's.
    "second_order": DegradationConfig(
        anisotropic_share=0.31,
        generalized_share=0.15,
        plateau_share=0.15,
        sinc_share=0.1,
        downsample_factor=(0.67, 6.0),
        enlarge_probability=0.2,
        keep_size_probability=0.1,
        noise_sigma=(1.0, 20.0),
        jpeg_quality=(40, 95),
        poisson_share=0.5,
        grey_noise_share=0.4,
        second_probability=1.0,
        second_blur_probability=0.8,
        second_downsample_factor=(0.83, 3.3),
        second_enlarge_probability=0.3,
        second_keep_size_probability=0.3,
        ringing_probability=0.8,
        ringing_after_jpeg_share=0.5,
    ),
}


def at_face_size(config: DegradationConfig, face_size_px: int) -> DegradationConfig:
    """Return a degradation for 512 px faces, scaled to faces of another size.

    Blurs and reductions are scaled by the face's size, but no reduction becomes an enlargement.
    """
    factor = face_size_px / TEMPLATE_SIZE_PX
    changes: dict[str, Any] = {}
    for prefix in ("", "second_"):
        low, high = getattr(config, prefix + "blur_sigma_px")
        changes[prefix + "blur_sigma_px"] = (low * factor, high * factor)
        bounds = getattr(config, prefix + "downsample_factor")
        low, high = (max(min(bound, 1.0), bound * factor) for bound in bounds)
        changes[prefix + "downsample_factor"] = (low, high)
    low, high = config.clean_blur_sigma_px
    return dataclasses.replace(config, clean_blur_sigma_px=(low * factor, high * factor), **changes)
