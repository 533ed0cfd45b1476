"""What people's pictures are like: cut-outs, files of all kinds and sizes, stills from video."""

from __future__ import annotations

import io
from typing import Literal, get_args

import cv2
import numpy as np
import pytest
from conftest import random_network
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from gfpgan_core import bounds, geometry, images
from gfpgan_core.config import MAX_SCALE, MIN_SCALE, RestoreOptions, largest_scale
from gfpgan_core.detect import load_detector
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8, Photo
from gfpgan_core.images.interlace import deinterlace, is_interlaced
from gfpgan_core.images.transparency import spread_colors
from gfpgan_core.pipeline import FaceRestorer

# Shrinking a counterexample of a whole restoration takes minutes.
UNSHRUNK = (Phase.explicit, Phase.generate)


@pytest.fixture(scope="module")
def restorer() -> FaceRestorer:
    return FaceRestorer(random_network(3).eval(), load_detector("centerface"))


def _resized(image: ImageU8, width: int, height: int) -> ImageU8:
    return np.asarray(geometry.resize(image, (width, height)), np.uint8)


@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 0, 255)])
def test_a_cut_out_has_no_outline_of_hidden_colors(
    restorer: FaceRestorer,
    portrait: ImageU8,
    tinting_background: RestoreOptions,
    hidden: tuple[int, int, int],
) -> None:
    """Laid on its own color, the enlarged cut-out can't be told from a flat field."""
    alpha = np.zeros((512, 512), np.uint8)
    cv2.ellipse(alpha, (256, 256), (160, 210), 0, 0, 360, 255, -1)
    flat = np.full((512, 512, 3), (190, 150, 120), np.uint8)
    flat[alpha == 0] = hidden
    for options, tint in ((RestoreOptions(scale=2), 0), (tinting_background, 12)):
        result = restorer.restore(Photo(flat, alpha), options)
        assert result.alpha is not None
        seen = result.image[result.alpha > 0].astype(int)
        assert np.abs(seen - (190 + tint, 150, 120 - tint)).max() <= 1
    result = restorer.restore(Photo(portrait, alpha), RestoreOptions(scale=2))
    assert len(result.faces) == 1


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(16, 80), st.integers(16, 80), st.integers(0, 2**32 - 1))
def test_spreading_changes_nothing_that_is_seen(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = rng.choice(np.array([0, 0, 1, 255], np.uint8), (height, width))
    spread = spread_colors(rgb, alpha)
    assert np.array_equal(spread[alpha > 0], rgb[alpha > 0])
    colors = {tuple(color) for color in rgb[alpha > 0]}
    assert {tuple(color) for color in spread[alpha == 0]} <= colors or not colors


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.integers(bounds.MIN_SIDE_PX, bounds.MAX_SIDE_PX),
    st.integers(bounds.MIN_SIDE_PX, bounds.MAX_SIDE_PX),
    st.one_of(st.just("auto"), st.floats(MIN_SCALE, MAX_SCALE)),
)
def test_a_result_has_the_size_promised_or_is_refused(
    width: int, height: int, scale: float | Literal["auto"]
) -> None:
    if width * height > bounds.MAX_INPUT_MEGAPIXELS * 1e6:
        return
    options = RestoreOptions(scale=scale)
    chosen = options.scale_for(width, height)
    try:
        size_wh = options.output_size_wh(width, height)
    except InputError as error:
        assert scale != "auto" and "choose a scale of at most" in str(error)
        assert float(scale) > largest_scale(width, height)
        return
    assert size_wh == (round(width * chosen), round(height * chosen))
    assert size_wh[0] * size_wh[1] <= bounds.MAX_OUTPUT_MEGAPIXELS * 1e6
    assert max(size_wh) <= bounds.MAX_OUTPUT_SIDE_PX
    if scale == "auto":
        larger = RestoreOptions(scale=min(2.0, chosen + 0.02))
        assert chosen == 2 or _is_refused(larger, width, height)


def _is_refused(options: RestoreOptions, width: int, height: int) -> bool:
    try:
        options.output_size_wh(width, height)
    except InputError:
        return True
    return False


def test_a_phone_photo_of_50_megapixels_fits_at_the_default_scale() -> None:
    options = RestoreOptions()
    assert options.scale_for(8160, 6144) == 1.59
    assert options.scale_for(4000, 3000) == 2


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=UNSHRUNK,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    width=st.integers(16, 90),
    height=st.integers(16, 90),
    channels=st.sampled_from([1, 3]),
    with_alpha=st.booleans(),
    options=st.builds(
        RestoreOptions,
        scale=st.one_of(st.just("auto"), st.floats(0.25, 4)),
        blend=st.floats(0, 1),
        faces=st.sampled_from(["all", "largest", "center"]),
        min_eye_distance_px=st.floats(0, 50),
        min_score=st.floats(0.3, 1),
        deinterlace=st.booleans(),
    ),
    seed=st.integers(0, 1000),
)
def test_any_photo_with_any_options_gives_the_size_promised(
    restorer: FaceRestorer,
    portrait: ImageU8,
    width: int,
    height: int,
    channels: int,
    with_alpha: bool,
    options: RestoreOptions,
    seed: int,
) -> None:
    rgb = _resized(portrait[40:340, 60:400], width, height)
    rgb = images.gray(rgb) if channels == 1 else rgb
    rng = np.random.default_rng(seed)
    alpha = rng.choice(np.array([0, 128, 255], np.uint8), (height, width)) if with_alpha else None
    result = restorer.restore(Photo(rgb, alpha), options)
    scale = options.scale_for(width, height)
    expected = (round(height * scale), round(width * scale))
    assert result.image.shape == (*expected, 3) and result.image.dtype == np.uint8
    assert (result.alpha is None) == (alpha is None)
    assert result.alpha is None or result.alpha.shape == expected
    for file_format in get_args(images.Format):
        with Image.open(io.BytesIO(result.encode(file_format))) as written:
            assert written.size == expected[::-1]


def test_resolution_grows_with_the_picture(restorer: FaceRestorer) -> None:
    photo = Photo(np.full((40, 60, 3), 90, np.uint8), dpi=(600.0, 300.0))
    result = restorer.restore(photo, RestoreOptions(scale=1.5))
    assert result.dpi == (900.0, 450.0)
    assert images.decode(result.encode("jpg")).dpi == (900.0, 450.0)


def _interlaced(image: ImageU8, shift_px: int) -> ImageU8:
    """Odd lines as they were when the camera had moved on."""
    result = image.copy()
    result[1::2] = np.roll(image, shift_px, axis=1)[1::2]
    return result


def test_interlacing_is_seen_in_motion_only(portrait: ImageU8) -> None:
    still = _resized(portrait, 720, 576)
    noise = np.random.default_rng(0).normal(0, 20, still.shape)
    noisy = np.clip(still + noise, 0, 255).astype(np.uint8)
    assert not is_interlaced(still) and not is_interlaced(noisy)
    for shift_px in (4, 12):
        combed = _interlaced(still, shift_px)
        assert is_interlaced(combed)
        assert not is_interlaced(deinterlace(combed))


def test_deinterlacing_keeps_the_even_lines(portrait: ImageU8) -> None:
    for height in (16, 17):
        part = portrait[200 : 200 + height]
        lines = deinterlace(part)
        assert np.array_equal(lines[::2], part[::2])
        between = part[0:-2:2].astype(int) / 2 + part[2::2] / 2
        assert np.abs(lines[1 : 2 * len(between) : 2] - between).max() <= 0.5


def test_interlacing_is_reported_until_it_is_removed(
    restorer: FaceRestorer, portrait: ImageU8
) -> None:
    combed = _interlaced(portrait, 8)
    assert restorer.restore(combed).is_interlaced
    assert not restorer.restore(combed, RestoreOptions(deinterlace=True)).is_interlaced
