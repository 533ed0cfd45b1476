"""What `blend="auto"` sees in a face, and what it then does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from conftest import random_network

from gfpgan_core.config import RestoreOptions
from gfpgan_core.damage import damage_of
from gfpgan_core.detect import load_detector
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from train.degradation_config import STRENGTHS
from train.degradations import degrade


@pytest.fixture(scope="module")
def face(portrait: ImageU8) -> ImageU8:
    """The portrait's face, as sharp as pixels can be: reduced to half."""
    return np.asarray(cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)


def _blurred(face: ImageU8, sigma_px: float) -> ImageU8:
    return np.asarray(cv2.GaussianBlur(face, (0, 0), sigma_px), np.uint8)


def test_a_sharp_face_asks_for_nothing_and_a_blurred_one_for_more_and_more(face: ImageU8) -> None:
    shares = [damage_of(face).blend]
    shares += [damage_of(_blurred(face, sigma_px)).blend for sigma_px in (0.7, 1, 1.5, 3, 6)]
    assert shares[0] == 0 and shares[-1] > 0.9
    assert shares == sorted(shares)


def test_the_named_strengths_ask_for_as_much_as_they_take(portrait: ImageU8) -> None:
    """Between the shares that bring the input nearest to the truth: docs/blend.md."""
    damaged = {
        name: degrade(portrait, config, np.random.default_rng(1))[0]
        for name, config in STRENGTHS.items()
    }
    mild, medium, heavy = (damage_of(damaged[name]).blend for name in ("mild", "medium", "heavy"))
    assert 0.2 < mild < 0.75 < medium < heavy


def test_noise_asks_for_a_part_and_is_measured_in_gray_levels(face: ImageU8) -> None:
    flat = np.full((256, 256, 3), 128.0)
    noise = np.random.default_rng(0).normal(0, 20, (256, 256, 1))
    levels = np.clip(flat + noise, 0, 255).round().astype(np.uint8)  # the same in all channels
    assert abs(damage_of(levels).noise - 20) < 1
    noisy = np.clip(face + noise, 0, 255).round().astype(np.uint8)
    assert 0.4 < damage_of(noisy).blend < 0.8


def test_neither_brightness_nor_contrast_is_damage(face: ImageU8) -> None:
    faded = (60 + face * 0.5).round().astype(np.uint8)
    assert abs(damage_of(faded).sharpness - damage_of(face).sharpness) < 0.05
    soft = _blurred(face, 1.2)
    faded = (60 + soft * 0.5).round().astype(np.uint8)
    assert abs(damage_of(faded).sharpness - damage_of(soft).sharpness) < 0.05


def test_a_crop_of_one_color_is_no_error() -> None:
    assert damage_of(np.full((64, 64, 3), 9, np.uint8)).noise == 0


def _restorer() -> FaceRestorer:
    network = random_network(3).eval()
    return FaceRestorer(network, load_detector("centerface"), backend="torch")


def test_auto_leaves_a_good_photo_and_restores_a_bad_one(face: ImageU8) -> None:
    """By a share for each face: the same as that share, given as a number."""
    restorer = _restorer()
    for photo, is_good in ((face, True), (_blurred(face, 3), False)):
        auto = restorer.restore(photo, RestoreOptions(scale=1, blend="auto"))
        (share,) = auto.blends
        assert auto.damages == [damage_of(auto.crops[0])]
        assert share < 0.1 if is_good else share > 0.3
        given = restorer.restore(photo, RestoreOptions(scale=1, blend=share))
        assert np.array_equal(auto.image, given.image)


def test_auto_holds_for_aligned_faces_as_well(face: ImageU8) -> None:
    restorer = _restorer()
    options = RestoreOptions(scale=1, blend="auto", aligned=True)
    small = np.asarray(cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA), np.uint8)
    soft = _blurred(small, 3)
    result = restorer.restore(soft, options)
    (share,) = result.blends
    given = restorer.restore(soft, RestoreOptions(scale=1, blend=share, aligned=True))
    assert 0.2 < share < 1 and np.array_equal(result.image, given.image)


def test_another_word_is_refused() -> None:
    with pytest.raises(InputError, match="blend is full; allowed: 0 to 1, or auto"):
        RestoreOptions(blend="full")  # type: ignore[arg-type]
