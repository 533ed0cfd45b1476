from __future__ import annotations

import cv2
import numpy as np
import pytest

from gfpgan_core import geometry
from gfpgan_core.config import RestoreOptions
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_LANDMARKS, apply, chain, inverse, scaling


def test_scaling_takes_edges_to_edges() -> None:
    doubled = scaling((10, 20), (20, 40))
    # The left edge of the first pixel is at -0.5 in both; upstream shifts by 0.5 * scale instead.
    assert np.allclose(
        apply(doubled, np.array([[-0.5, -0.5], [9.5, 19.5]])), [[-0.5, -0.5], [19.5, 39.5]]
    )
    assert np.allclose(doubled[:, 2], 0.5)


def test_warping_by_a_scaling_equals_resizing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    ours = geometry.warp(
        image,
        scaling((40, 30), (80, 60)),
        (80, 60),
        interpolation=cv2.INTER_LINEAR,
        border=cv2.BORDER_REPLICATE,
    )
    theirs = cv2.resize(image, (80, 60), interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours.astype(int) - theirs).max() <= 4  # warpAffine rounds positions to 1/32 px


def test_chain_and_inverse_undo_each_other() -> None:
    turn = np.array([[0.8, -0.6, 3], [0.6, 0.8, -7.0]])
    assert np.allclose(chain(turn, inverse(turn)), [[1, 0, 0], [0, 1, 0]])
    assert geometry.scale_of(turn * 2) == pytest.approx(2)


@pytest.mark.parametrize("size_px", [512, 256])
def test_fit_recovers_a_known_similarity(size_px: int) -> None:
    moved = np.array([[0.3, -0.2, 100], [0.2, 0.3, 50.0]])
    landmarks = apply(moved, TEMPLATE_LANDMARKS)
    expected = chain(scaling((512, 512), (size_px, size_px)), inverse(moved))
    assert np.allclose(geometry.fit_to_template(landmarks, size_px), expected, atol=1e-3)


def test_fit_withstands_one_bad_landmark() -> None:
    landmarks = TEMPLATE_LANDMARKS.copy()
    landmarks[2] += 80
    moved = apply(geometry.fit_to_template(landmarks, 512), TEMPLATE_LANDMARKS)
    assert np.abs(moved - TEMPLATE_LANDMARKS).max() < 2


def test_landmarks_on_one_spot_are_refused() -> None:
    with pytest.raises(InputError, match="coincide"):
        geometry.fit_to_template(np.full((5, 2), 7.0), 512)


def test_shrinking_averages_instead_of_aliasing() -> None:
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)  # one-pixel chequers
    small = geometry.warp(board, scaling((256, 256), (32, 32)), (32, 32))
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127.5).max() <= 4


@pytest.mark.parametrize("scale", [0.3, 1, 1.5, 2, 2.7, 4])
def test_result_size_is_the_rounded_product(scale: float) -> None:
    options = RestoreOptions(scale=scale)
    for width, height in ((101, 57), (299, 300), (1, 8)):
        if round(height * scale) and round(width * scale):
            assert options.output_size_wh(width, height) == (
                round(width * scale),
                round(height * scale),
            )


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"scale": 0}, "scale is 0; allowed: 0.25 to 8"),
        ({"scale": 99}, "scale is 99"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"blend": 1.5}, "blend is 1.5; allowed: 0 to 1"),
        ({"background": "magic"}, "background is 'magic'; allowed: none, realesrgan-x4v3"),
        ({"faces": "some"}, "faces is 'some'"),
        ({"min_score": 2}, "min_score is 2"),
    ],
)
def test_options_out_of_bounds_are_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        RestoreOptions(**values)  # type: ignore[arg-type]


def test_a_huge_result_is_refused_before_it_is_made() -> None:
    with pytest.raises(InputError, match="at most 128 megapixels"):
        RestoreOptions(scale=8).output_size_wh(4000, 3000)
