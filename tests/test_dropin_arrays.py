"""The pictures that `enhance` takes, against upstream's own reading, and those that it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import upstream
from torch import nn

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.upstream.arrays import as_bgr


@pytest.fixture
def bgr(portrait: ImageU8) -> ImageU8:
    return np.ascontiguousarray(portrait[::2, ::2, ::-1])


def test_pictures_of_every_type_are_read_as_upstream_reads_them(bgr: ImageU8) -> None:
    helper = upstream.gfpganer(nn.Identity(), nn.Identity(), []).face_helper
    wide = bgr.astype(np.float64) * 257 + 100
    wide[wide > 65535] = 65535
    pictures = [
        bgr[..., 0].copy(),
        np.dstack([bgr, bgr[..., :1]]),
        wide.astype(np.uint16),
        wide.astype(np.int32),
        wide,
        np.dstack([wide, wide[..., :1]]).astype(np.uint16),
        bgr.astype(np.float32) * 0.9,
        bgr.astype(np.float64) * 0.9,
        (bgr // 2).astype(np.int64),
        (bgr // 2).astype(np.uint16),
        bgr.astype(np.float32) + 1,  # up to 256
    ]
    for picture in pictures:
        helper.read_image(picture)
        read = as_bgr(picture)
        assert read.dtype == np.uint8 and read.shape == bgr.shape
        assert np.abs(read - np.clip(helper.input_img, 0, 255)).max() <= 0.5 + 1e-6
    # Upstream fails here: OpenCV doesn't convert float64.
    assert np.array_equal(
        as_bgr(wide[..., 0].astype(np.uint16)), as_bgr(wide)[..., :1].repeat(3, 2)
    )


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (None, "cv2.imread gives None"),
        (np.zeros((64, 64, 2), np.uint8), r"has shape \(64, 64, 2\)"),
        (np.full((64, 64, 3), -1.0), "values from -1 to -1"),
        (np.full((64, 64, 3), np.nan), "values from nan"),
        (np.full((64, 64, 3), 1e6), "0 to 65535"),
        (np.zeros((64, 64, 3), bool), "type bool"),
        (np.zeros((0, 64, 3), np.uint8), "each side must have at least"),
    ],
)
def test_what_is_no_picture_is_refused(picture: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        images.check_input_size(*as_bgr(picture).shape[1::-1])


def test_a_float_picture_of_0_to_1_is_nearly_black_as_there_and_said_to_be(
    bgr: ImageU8, caplog: pytest.LogCaptureFixture
) -> None:
    assert as_bgr(bgr / 255).max() <= 1
    assert "Multiply it by 255" in caplog.text
