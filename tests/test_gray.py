"""Gray is a property of what is looked at, not of the page that it lies on."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from conftest import random_network
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from gfpgan_core import geometry, images
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import load_detector
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer

ORANGE = (255, 140, 0)
PALE_RED = (200, 178, 176)
# The stand-in for a background network adds 12 to red and takes 12 from blue.
TINT = 24


@pytest.fixture(scope="module")
def restorer() -> FaceRestorer:
    return FaceRestorer(random_network(3).eval(), load_detector("centerface"))


def _resized(image: ImageU8, width: int, height: int) -> ImageU8:
    return np.asarray(geometry.resize(image, (width, height)), np.uint8)


def _colors(image: ImageU8) -> ImageU8:
    """Each pixel's largest difference of channels."""
    return np.asarray(image.max(axis=2) - image.min(axis=2), np.uint8)


def _page(paper: int, noise: float) -> ImageU8:
    """A gray page of black text, each channel with a scanner's noise of its own."""
    page = np.full((400, 640, 3), paper, np.uint8)
    for row in range(4):
        text = "The quick brown fox jumps over the lazy dog."
        cv2.putText(page, text, (80, 240 + 40 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0))
    grain = np.random.default_rng(1).normal(0, noise, page.shape)
    return np.asarray(np.clip(page + grain, 0, 255).round(), np.uint8)


def _as_jpeg(image: ImageU8) -> ImageU8:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=85)
    return np.asarray(Image.open(buffer))


def _head(portrait: ImageU8) -> ImageU8:
    return _resized(portrait[:240, 110:350], 90, 90)


@pytest.mark.parametrize(("paper", "noise"), [(255, 0), (205, 0), (205, 1.5)])
@pytest.mark.parametrize("jpeg", [False, True])
def test_a_color_portrait_keeps_its_color_on_any_page_and_the_page_gets_none(
    restorer: FaceRestorer,
    portrait: ImageU8,
    tinting_background: RestoreOptions,
    paper: int,
    noise: float,
    jpeg: bool,
) -> None:
    page = _page(paper, noise)
    page[80:170, 80:170] = _head(portrait)
    page = _as_jpeg(page) if jpeg else page
    result = restorer.restore(page, tinting_background)
    (crop,) = result.restored_crops
    assert _colors(crop).max() > 40
    inside = _colors(result.image[170:330, 170:330])
    before = _colors(_resized(page, 1280, 800)[170:330, 170:330])
    assert inside.mean() > 0.8 * before.mean() > 20
    assert _colors(result.image[420:, 400:]).max() <= (0 if noise == 0 else 2)

    plain = restorer.restore(page, RestoreOptions(scale=1)).image
    assert _colors(plain[85:165, 85:165]).mean() > 20


def test_a_gray_portrait_on_a_colored_page_stays_gray_and_the_page_colored(
    restorer: FaceRestorer, portrait: ImageU8, tinting_background: RestoreOptions
) -> None:
    page = np.full((450, 640, 3), (150, 190, 120), np.uint8)
    page[150:390, 300:540] = images.gray(portrait[:240, 110:350])
    for options in (tinting_background, RestoreOptions(scale=2)):
        result = restorer.restore(page, options)
        assert len(result.faces) == 1
        assert _colors(result.image[320:760, 620:1060]).max() == 0
        assert _colors(result.image[:250]).min() >= 70 - TINT


@pytest.mark.parametrize("side", [90, 140])
def test_a_gray_portrait_cut_close_on_a_colored_page_gets_no_color(
    restorer: FaceRestorer, portrait: ImageU8, tinting_background: RestoreOptions, side: int
) -> None:
    """Most of the aligned crop shows the page."""
    page = np.full((450, 640, 3), (150, 190, 120), np.uint8)
    face = images.gray(portrait[60:200, 160:300])
    page[200 : 200 + side, 300 : 300 + side] = _resized(face, side, side)
    for options in (tinting_background, RestoreOptions(scale=2)):
        result = restorer.restore(page, options)
        assert len(result.faces) == 1
        # A pixel of the tiny network's crop is two of the photo, so its edges are coarse.
        edge = side // 5
        inner = result.image[2 * 200 :, 2 * 300 :][2 * edge :, 2 * edge :]
        inner = inner[: 2 * (side - 2 * edge), : 2 * (side - 2 * edge)]
        assert _colors(inner).max() == 0


def test_a_sepia_photo_stays_sepia(
    restorer: FaceRestorer, portrait: ImageU8, tinting_background: RestoreOptions
) -> None:
    luma = images.gray(portrait).astype(float)
    sepia = np.asarray((luma * (1.0, 0.95, 0.86)).round(), np.uint8)
    midtones = _resized(luma[..., 0], 1024, 1024) > 80
    result = restorer.restore(sepia, tinting_background)
    assert _colors(result.restored_crops[0]).max() > 40
    assert _colors(result.image)[midtones].mean() > TINT
    plain = restorer.restore(sepia, RestoreOptions(scale=2)).image
    assert np.mean(_colors(plain)[midtones] > 5) > 0.9


def test_a_pale_stamp_on_a_gray_photo_keeps_its_color(
    restorer: FaceRestorer, portrait: ImageU8, tinting_background: RestoreOptions
) -> None:
    """Paler than any print: 24 levels between its channels, on a hundredth of the photo."""
    photo = images.gray(portrait)
    cv2.circle(photo, (460, 460), 28, PALE_RED, -1)
    result = restorer.restore(photo, tinting_background)
    assert _colors(result.restored_crops[0]).max() == 0
    assert _colors(result.image[:800]).max() == 0
    assert _colors(result.image[900:940, 900:940]).min() >= TINT


def test_a_gray_photo_with_an_orange_date_keeps_both(
    restorer: FaceRestorer, portrait: ImageU8, tinting_background: RestoreOptions
) -> None:
    photo = images.gray(portrait)
    cv2.putText(photo, "'94 6 12", (380, 500), cv2.FONT_HERSHEY_SIMPLEX, 0.8, ORANGE, 2)
    for options in (RestoreOptions(scale=2), tinting_background):
        result = restorer.restore(photo, options)
        assert _colors(result.restored_crops[0]).max() == 0
        assert _colors(result.image[:900]).max() == 0
        assert _colors(result.image[920:, 740:]).max() > 150


def test_one_gray_and_one_color_face_are_decided_apart(
    restorer: FaceRestorer, two_faces: ImageU8
) -> None:
    photo = two_faces.copy()
    photo[:, 516:] = images.gray(photo[:, 516:])
    result = restorer.restore(photo)
    colors = {
        face.landmarks[2, 0] > 512: _colors(crop).max()
        for face, crop in zip(result.faces, result.restored_crops, strict=True)
    }
    assert colors[True] == 0 and colors[False] > 40


def test_a_face_of_black_and_white_alone_is_decided_with_what_is_around_it() -> None:
    """A blown-out face in a color photo may get color; on a page without color it may not."""
    crop = np.full((128, 128, 3), 250, np.uint8)
    tinted = np.full((128, 128, 3), (220, 180, 160), np.uint8)
    assert not _colors(images.keep_gray_face(tinted, crop)).any()
    crop[:30] = (60, 90, 160)
    kept = images.keep_gray_face(tinted, crop)
    assert np.array_equal(kept[52:102, 45:83], tinted[52:102, 45:83])


@pytest.mark.parametrize("side", [40, 90, 160])
@pytest.mark.parametrize("noise", [1.5, 4])
def test_noise_of_a_small_gray_portrait_is_no_color(
    portrait: ImageU8, side: int, noise: float
) -> None:
    """Enlarged to a crop, each grain of a scanner's noise is many pixels large."""
    small = _resized(images.gray(portrait[:240, 110:350]), side, side)
    grain = np.random.default_rng(side).normal(0, noise, small.shape)
    tinted = np.full((512, 512, 3), (220, 180, 160), np.uint8)
    for paper, is_colored in ((0, False), (np.array([0, -10, -20]), True)):
        noisy = np.asarray(np.clip(small + paper + grain, 0, 255).round(), np.uint8)
        kept = images.keep_gray_face(tinted, _resized(noisy, 512, 512), 512 / side)
        in_face = _colors(kept[205:410, 180:332]) > 0
        assert in_face.all() if is_colored else np.mean(_colors(kept) > 0) < 0.02


@pytest.mark.parametrize("paper", [60, 128, 205, 255])
def test_the_page_around_a_color_face_gets_no_color(portrait: ImageU8, paper: int) -> None:
    crop = _resized(portrait[20:230, 120:330], 512, 512)
    crop[:130], crop[:, :70] = paper, paper
    tinted = np.asarray(np.clip(crop.astype(int) + np.array([12, 0, -12]), 0, 255), np.uint8)
    kept = images.keep_gray_face(tinted, crop, 4)
    fading = 10  # the means of nine pixels, and a step between gray and color blurred by as much
    assert _colors(tinted[: 130 - fading]).min() >= 12
    assert not _colors(kept[: 130 - fading]).any() and not _colors(kept[:, : 70 - fading]).any()
    assert np.array_equal(kept[205:410, 180:332], tinted[205:410, 180:332])


@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    paper=st.integers(30, 255),
    noise=st.sampled_from([0.0, 1.5, 3.0]),
    side=st.integers(70, 160),
    left=st.integers(0, 480),
    top=st.integers(0, 230),
    is_gray=st.booleans(),
    jpeg=st.booleans(),
)
def test_on_any_page_each_place_has_the_color_it_had(
    restorer: FaceRestorer,
    portrait: ImageU8,
    tinting_background: RestoreOptions,
    paper: int,
    noise: float,
    side: int,
    left: int,
    top: int,
    is_gray: bool,
    jpeg: bool,
) -> None:
    head = _resized(portrait[:240, 110:350], side, side)
    page = np.full((400, 640, 3), paper, np.uint8)
    page[top : top + side, left : left + side] = images.gray(head) if is_gray else head
    grain = np.random.default_rng(side).normal(0, noise, page.shape)
    page = np.asarray(np.clip(page + grain, 0, 255).round(), np.uint8)
    page = _as_jpeg(page) if jpeg else page
    for options in (RestoreOptions(scale=2), tinting_background):
        colors = _colors(restorer.restore(page, options).image)
        inner = colors[2 * top :, 2 * left :][20 : 2 * side - 20, 20 : 2 * side - 20]
        # The tiny network's crop is coarse, and JPEG spreads color over blocks of 16 pixels.
        reach = 40
        outer = np.ones(colors.shape, bool)
        rows = slice(max(0, 2 * top - reach), 2 * (top + side) + reach)
        outer[rows, max(0, 2 * left - reach) : 2 * (left + side) + reach] = False
        grain_colors = 8 * noise
        assert np.percentile(colors[outer], 99) <= grain_colors
        assert inner.mean() <= grain_colors if is_gray else inner.mean() > 20


def test_what_is_kept_gray_may_have_another_size() -> None:
    original = np.full((60, 40, 3), 120, np.uint8)
    original[30:] = (200, 60, 60)
    restored = np.full((90, 100, 3), (210, 100, 90), np.uint8)
    kept = images.keep_gray(restored, original)
    assert not _colors(kept[:30]).any()
    assert np.array_equal(kept[55:], restored[55:])
