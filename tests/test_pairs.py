"""Pictures before and after as HTML: what is drawn over the photo, and in which coordinates."""

from __future__ import annotations

import re

import numpy as np

from gfpgan_core.cli.pairs import marks, pair
from gfpgan_core.detectors import Face
from gfpgan_core.geometry import TEMPLATE_LANDMARKS
from gfpgan_core.result import Restoration


def _restoration(*faces: Face) -> Restoration:
    """Of a photo of 700x600 px, at scale 2."""
    image = np.zeros((1200, 1400, 3), np.uint8)
    return Restoration(image, None, "png", list(faces), [], [], scale=2)


def test_marks_are_in_the_photos_pixels() -> None:
    landmarks = TEMPLATE_LANDMARKS + np.array([100, 20])
    drawn = marks(_restoration(Face(np.array([210.0, 180, 490, 480]), landmarks, 0.9, number=3)))
    assert 'viewBox="0 0 700.0 600.0"' in drawn and ">3</text>" in drawn
    assert '<rect x="210.0" y="180.0" width="280.0" height="300.0"/>' in drawn
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    corners = np.array([point.split(",") for point in points.split()], float)
    square = [[99.5, 19.5], [611.5, 19.5], [611.5, 531.5], [99.5, 531.5]]
    np.testing.assert_allclose(corners, square, atol=0.11)  # a digit after the point
    dots = re.findall(r'cx="([^"]*)" cy="([^"]*)"', drawn)
    np.testing.assert_allclose(np.array(dots, float), landmarks, atol=0.051)


def test_a_photo_without_faces_has_no_marks() -> None:
    assert marks(_restoration()) == ""
    assert "checkbox" not in pair("a", b"1", b"2", (8, 8))
    assert "checkbox" in pair("a", b"1", b"2", (8, 8), "<svg></svg>")


def test_names_are_text() -> None:
    assert "<script>" not in pair('"><script>', b"", b"", (8, 8))
