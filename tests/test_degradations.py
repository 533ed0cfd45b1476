from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8, grey
from train.degradations import (
    PRESETS,
    DegradationConfig,
    add_noise,
    blur,
    blur_kernel,
    colour_jitter,
    degrade,
    downsample,
    jpeg,
    ringing_kernel,
)

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
    ours = blur(portrait, (3.0, 3.0), 0, _rng()).astype(float)
    theirs = gaussian_filter(portrait.astype(float), (3, 3, 0), mode="mirror")
    assert np.abs(ours - theirs).max() <= 1


def test_anisotropic_kernel_has_the_variances_and_the_turn_asked_for() -> None:
    kernel = blur_kernel(4.0, 1.5, 0.0).astype(float)
    y, x = np.mgrid[-20:21, -20:21]
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert (kernel * x**2).sum() == pytest.approx(16, rel=0.01)
    assert (kernel * y**2).sum() == pytest.approx(2.25, rel=0.01)
    assert np.allclose(blur_kernel(4.0, 1.5, np.pi / 2), kernel.T, atol=1e-6)
    turned = blur_kernel(4.0, 1.5, np.pi / 4).astype(float)
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


def test_grey_makes_both_grey(portrait: ImageU8) -> None:
    lq, gt = degrade(portrait, dataclasses.replace(NONE, grey_probability=1), _rng())
    for image in (lq, gt):
        assert (image[..., 0] == image[..., 1]).all() and (image[..., 1] == image[..., 2]).all()
    luma = portrait @ [0.299, 0.587, 0.114]  # BT.601
    assert np.abs(grey(portrait)[..., 0] - luma).max() <= 1


def test_colour_shift_moves_channels_by_at_most_the_range() -> None:
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
    assert np.abs(colour_jitter(portrait, neutral, _rng()).astype(int) - portrait).max() <= 1


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


def test_ringing_kernel_is_basicsrs() -> None:
    from gfpgan_core import compat

    compat.restore_functional_tensor()
    from basicsr.data.degradations import circular_lowpass_kernel

    for cutoff in (np.pi / 3, 2.0, np.pi):
        theirs = circular_lowpass_kernel(cutoff, 21, pad_to=0)
        assert np.abs(ringing_kernel(cutoff) - theirs).max() < 1e-6


def test_shot_noise_is_stronger_in_the_light_and_grey_noise_is_grey() -> None:
    dark, light = (np.full((300, 300, 3), v, np.uint8) for v in (32, 128))
    deviations = [add_noise(i, 8.0, _rng(), shot=True).astype(float).std() for i in (dark, light)]
    assert deviations[0] / deviations[1] == pytest.approx((32 / 128) ** 0.5, rel=0.03)
    grey_noise = add_noise(light, 8.0, _rng(), same_in_channels=True)
    assert (grey_noise == grey_noise[..., :1]).all() and grey_noise.std() > 7


def test_the_second_order_preset_damages_more_than_the_paper(portrait: ImageU8) -> None:
    def error(config: DegradationConfig) -> float:
        plain = dataclasses.replace(
            config, colour_shift_probability=0, colour_jitter_probability=0, grey_probability=0
        )
        pairs = [degrade(portrait, plain, _rng(seed)) for seed in range(12)]
        return float(np.mean([np.square(lq.astype(float) - gt).mean() for lq, gt in pairs]))

    once = dataclasses.replace(PRESETS["second_order"], second_probability=0)
    assert error(PRESETS["second_order"]) > 1.1 * error(once)
