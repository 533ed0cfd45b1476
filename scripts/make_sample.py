"""Writes the sample portrait, and the degraded copy that `make restore` starts from, to assets/.

The portrait is scikit-image's `astronaut`: Eileen Collins, by NASA, in the public domain.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from skimage import data

from gfpgan_core import images
from train.degradations import add_noise, blur_kernel, downsample, jpeg

_ASSETS = Path(__file__).parent.parent / "assets"


def main() -> None:
    portrait = data.astronaut()
    small = cv2.filter2D(portrait, -1, blur_kernel(1.5, 1.5, 0.0))
    small = downsample(np.asarray(small, np.uint8), 2)
    small = jpeg(add_noise(small, 6, np.random.default_rng(0)), 60)
    images.write(_ASSETS / "sample.jpg", images.encode(portrait, None, "jpg"))
    images.write(_ASSETS / "sample_degraded.jpg", images.encode(small, None, "jpg"))


if __name__ == "__main__":
    main()
