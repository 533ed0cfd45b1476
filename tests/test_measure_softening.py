"""How wide edges are, told of edges whose width is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from scripts.measure_softening import edge_width_px

_ALL = np.ones((128, 128), bool)


@pytest.mark.parametrize("width_px", [1.0, 1.5, 2.0, 3.0, 4.0])
def test_the_width_of_an_edge_is_that_of_its_blur_whatever_its_contrast(width_px: float) -> None:
    for dark, light in ((40, 200), (90, 150)):
        step = np.full((128, 128, 3), dark, np.uint8)
        step[:, 64:] = light
        blurred = np.asarray(cv2.GaussianBlur(step, (0, 0), width_px), np.uint8)
        # At low contrast a wide edge is few gray levels steep, and they are rounded.
        assert edge_width_px(blurred, _ALL) == pytest.approx(width_px, abs=0.12, rel=0.09)


def test_without_edges_there_is_no_width() -> None:
    assert edge_width_px(np.full((128, 128, 3), 90, np.uint8), _ALL) == float("inf")
