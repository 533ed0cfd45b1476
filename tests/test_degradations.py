"""What photos are made worse by: against SciPy, BasicSR, and what the figures mean.

Seeds are fixed, and NumPy's draws and OpenCV's arithmetic on 8 bits are the same on every processor
(measured without SIMD as well: no figure of this file differs in its last digit). So a bound here
says how near the model comes to the figure meant, and may lie close to what was measured.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gfpgan_core import compat
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8, gray
from train.degradation_config import PRESETS, STRENGTHS, DegradationConfig, at_face_size
from train.degradations import (
    add_chroma_noise,
    add_noise,
    blur,
    color_jitter,
    degrade,
    degrade_once,
    downsample,
    draw,
    jpeg,
)
from train.kernels import Axes, blur_kernel, generalized_kernel, plateau_kernel, ringing_kernel

NONE = DegradationConfig(
    blur_probability=0,
    downsample_factor=(1, 1),
    noise_sigma=(0, 0),
    jpeg_quality=(100, 100),
    colour_shift_probability=0,
    colour_jitter_probability=0,
    grey_probability=0,
)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_isotropic_blur_is_scipys_gaussian(portrait: ImageU8) -> None:
    ours = blur(portrait, (3.0, 3.0), DegradationConfig(), _rng()).astype(float)
    theirs = gaussian_filter(portrait.astype(float), (3, 3, 0), mode="mirror")
    assert np.abs(ours - theirs).max() <= 1


def test_anisotropic_kernel_has_the_variances_and_the_turn_asked_for() -> None:
    kernel = blur_kernel(Axes(4.0, 1.5)).astype(float)
    y, x = np.mgrid[-20:21, -20:21]
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * x**2).sum() == pytest.approx(16, rel=0.01)
    assert (kernel * y**2).sum() == pytest.approx(2.25, rel=0.01)
    assert np.allclose(blur_kernel(Axes(4.0, 1.5, np.pi / 2)), kernel.T, atol=1e-6)
    turned = blur_kernel(Axes(4.0, 1.5, np.pi / 4)).astype(float)
    assert (turned * x * y).sum() == pytest.approx((16 - 2.25) / 2, rel=0.01)


def test_noise_has_the_deviation_asked_for() -> None:
    image = np.full((400, 400, 3), 128, np.uint8)
    noisy = add_noise(image, 12.0, _rng()).astype(float)
    assert noisy.std() == pytest.approx(12, rel=0.01)
    assert noisy.mean() == pytest.approx(128, abs=0.1)


def test_downsampling_and_jpeg(portrait: ImageU8) -> None:
    assert downsample(portrait, 4).shape == (128, 128, 3)
    assert downsample(portrait, 0.8).shape == (640, 640, 3)
    errors = [np.abs(jpeg(portrait, q).astype(float) - portrait).mean() for q in (100, 60, 20)]
    assert errors[0] < errors[1] < errors[2]
    assert errors[0] < 3  # channels in order, chroma subsampled


def test_no_degradation_leaves_the_image_but_for_jpeg(portrait: ImageU8) -> None:
    lq, gt = degrade(portrait, NONE, _rng())
    assert gt is portrait
    assert np.array_equal(lq, jpeg(portrait, 100))


def test_the_same_draw_gives_the_same_image_and_keeps_its_input(portrait: ImageU8) -> None:
    before = portrait.copy()
    config = DegradationConfig(grey_probability=0.5)
    first, _ = degrade(portrait, config, _rng(5))
    again, _ = degrade(portrait, config, _rng(5))
    other, _ = degrade(portrait, config, _rng(6))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert first.shape == portrait.shape and first.dtype == np.uint8
    assert np.array_equal(portrait, before)


def test_gray_makes_both_gray(portrait: ImageU8) -> None:
    lq, gt = degrade(portrait, dataclasses.replace(NONE, grey_probability=1), _rng())
    for image in (lq, gt):
        assert (image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()
    luma = portrait @ [0.299, 0.587, 0.114]  # BT.601
    assert np.abs(gray(portrait)[..., 0] - luma).max() <= 1


def test_color_shift_moves_channels_by_at_most_the_range() -> None:
    image = np.full((64, 64, 3), 128, np.uint8)
    config = dataclasses.replace(NONE, colour_shift_probability=1, colour_shift=20)
    shifts = [
        degrade(image, config, _rng(s))[0].astype(int).mean(axis=(0, 1)) - 128 for s in range(50)
    ]
    assert 15 < np.abs(shifts).max() <= 21
    assert np.std(shifts) == pytest.approx(20 / np.sqrt(3), rel=0.2)  # of a uniform draw


def test_neutral_jitter_changes_nothing(portrait: ImageU8) -> None:
    neutral = dataclasses.replace(
        NONE, brightness=(1, 1), contrast=(1, 1), saturation=(1, 1), hue_degrees=(0, 0)
    )
    assert np.abs(color_jitter(portrait, neutral, _rng()).astype(int) - portrait).max() <= 1


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"blur_sigma_px": (3, 1)}, "blur_sigma_px is"),
        ({"blur_sigma_px": (0, 1)}, "above 0"),
        ({"grey_probability": 2}, "grey_probability is 2; allowed: 0 to 1"),
        ({"jpeg_quality": (0, 50)}, "jpeg_quality"),
        ({"noise_sigma": (-1, 5)}, "noise_sigma"),
    ],
)
def test_impossible_ranges_are_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        DegradationConfig(**values)  # type: ignore[arg-type]


def test_kernels_are_basicsrs() -> None:
    compat.restore_functional_tensor()
    from basicsr.data import degradations as theirs

    for cutoff in (np.pi / 3, 2.0, np.pi):
        expected = theirs.circular_lowpass_kernel(cutoff, 21, pad_to=0)
        assert np.abs(ringing_kernel(cutoff) - expected).max() < 1e-6
    shape = (21, 3.0, 1.5, np.pi / 5)
    axes = Axes(*shape[1:])
    for beta in (0.6, 1.0, 3.0):
        expected = theirs.bivariate_generalized_Gaussian(*shape, beta, isotropic=False)
        assert np.abs(generalized_kernel(axes, beta, 21) - expected).max() < 1e-6
        expected = theirs.bivariate_plateau(*shape, beta, isotropic=False)
        assert np.abs(plateau_kernel(axes, beta, 21) - expected).max() < 1e-6


def test_shot_noise_is_stronger_in_the_light_and_gray_noise_is_gray() -> None:
    dark, light = (np.full((300, 300, 3), v, np.uint8) for v in (32, 128))
    deviations = [add_noise(i, 8.0, _rng(), shot=True).astype(float).std() for i in (dark, light)]
    assert deviations[0] / deviations[1] == pytest.approx((32 / 128) ** 0.5, rel=0.03)
    gray_noise = add_noise(light, 8.0, _rng(), same_in_channels=True)
    assert (gray_noise == gray_noise[..., :1]).all() and gray_noise.std() > 7


def _edge_width_px(config: DegradationConfig) -> float:
    """The standard deviation of the blur that an upright edge in the middle shows."""
    edge = np.zeros((256, 256, 3), np.uint8)
    edge[:, 128:] = 255
    lq, _ = degrade(edge, config, _rng())
    slope = np.diff(lq[100:156, :, 1].astype(float).mean(axis=0))
    place = np.arange(255)
    middle = (slope * place).sum() / slope.sum()
    return float(np.sqrt((slope * (place - middle) ** 2).sum() / slope.sum()))


@pytest.mark.parametrize("reduced_before", [1, 4])
def test_the_second_blur_counts_in_pixels_of_the_full_size(reduced_before: float) -> None:
    second = dataclasses.replace(
        NONE,
        anisotropic_share=0,
        downsample_factor=(reduced_before, reduced_before),
        second_probability=1,
        second_blur_probability=1,
        second_blur_sigma_px=(8, 8),
        second_downsample_factor=(4, 4),
        second_noise_sigma=(0, 0),
        second_jpeg_quality=(100, 100),
    )
    # Reducing and enlarging by 4 blurs by about 2 px, whatever was before: sqrt(64 + 4).
    assert _edge_width_px(second) == pytest.approx(8.2, abs=0.4)


def test_a_blur_after_the_reduction_is_as_wide_in_the_full_size() -> None:
    for first in (0, 1):
        config = dataclasses.replace(
            NONE,
            anisotropic_share=0,
            blur_probability=1,
            blur_sigma_px=(8, 8),
            downsample_factor=(4, 4),
            reduce_first_probability=first,
        )
        assert _edge_width_px(config) == pytest.approx(8.2, abs=0.4)


def test_factors_are_enlarged_kept_and_reduced_as_often_as_asked() -> None:
    config = dataclasses.replace(
        NONE, downsample_factor=(0.5, 4), enlarge_probability=0.2, keep_size_probability=0.1
    )
    image = np.zeros((64, 64, 3), np.uint8)
    rng = _rng()
    sides = np.array([len(degrade_once(image, config, "", 64, rng)) for _ in range(2000)])
    assert (sides > 64).mean() == pytest.approx(0.2, abs=0.03)
    assert (sides == 64).mean() == pytest.approx(0.1, abs=0.03)
    assert sides.min() == 16 and sides.max() == 128


def test_log_uniform_draws_every_octave_alike() -> None:
    drawn = np.log2(
        [draw((0.25, 4.0), rng, "log_uniform") for rng in [_rng()] for _ in range(4000)]
    )
    counts, _ = np.histogram(drawn, bins=[-2, -1, 0, 1, 2])
    assert counts.sum() == 4000
    assert np.abs(counts / 1000 - 1).max() < 0.1


def test_nearly_clean_inputs_are_nearly_clean(portrait: ImageU8) -> None:
    heavy = dataclasses.replace(STRENGTHS["heavy"], clean_probability=0.2)
    errors = []
    for seed in range(60):
        lq, gt = degrade(portrait[128:384, 128:384], heavy, _rng(seed))
        errors.append(np.abs(lq.astype(float) - gt).mean())
    clean = np.array(errors) < 6
    assert clean.mean() == pytest.approx(0.2, abs=0.1)
    assert np.array(errors)[~clean].min() > 20


def test_chroma_noise_leaves_the_luma_and_is_coarse() -> None:
    image = np.full((256, 256, 3), 128, np.uint8)
    noisy = add_chroma_noise(image, 12.0, 4.0, _rng()).astype(float)
    luma = noisy @ [0.299, 0.587, 0.114]
    blue = (noisy[..., 2] - luma) / 1.772
    assert luma.std() < 0.5  # what rounding leaves
    assert blue.std() == pytest.approx(12, rel=0.05)
    neighbors = np.corrcoef(blue[:, 1:].ravel(), blue[:, :-1].ravel())[0, 1]
    assert neighbors > 0.8


def test_noise_before_the_reduction_is_averaged_away_by_it() -> None:
    image = np.full((256, 256, 3), 128, np.uint8)

    def deviation(**changes: float) -> float:
        config = dataclasses.replace(
            NONE,
            noise_sigma=(8, 8),
            downsample_factor=(4, 4),
            **changes,  # type: ignore[arg-type]
        )
        return float(degrade_once(image, config, "", 256, _rng()).astype(float).std())

    assert deviation() == pytest.approx(8, rel=0.02)
    # Half the strength before, averaged over 16 pixels: 8 and 4 / 4 together.
    assert deviation(early_noise_probability=1, area_probability=1) == pytest.approx(
        (8**2 + 1) ** 0.5, rel=0.02
    )


@pytest.mark.parametrize("name", list(STRENGTHS))
def test_a_strength_at_half_the_size_is_that_of_the_halved_face(
    name: str, portrait: ImageU8
) -> None:
    strength = dataclasses.replace(STRENGTHS[name], noise_sigma=(0, 0), jpeg_quality=(100, 100))
    large, _ = degrade(portrait, strength, _rng())
    half = np.asarray(cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    small, _ = degrade(half, at_face_size(strength, 256), _rng())
    expected = cv2.resize(large, (256, 256), interpolation=cv2.INTER_AREA).astype(float)
    assert np.abs(small.astype(float) - expected).mean() < 1.5


def test_every_preset_degrades_reproducibly(portrait: ImageU8) -> None:
    for preset in PRESETS.values():
        first, second = (degrade(portrait[:256, :256], preset, _rng(3))[0] for _ in range(2))
        assert (first == second).all()
        assert first.shape == (256, 256, 3)
