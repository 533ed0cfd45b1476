"""Write the sample portrait, and the degraded copy that `make restore` starts from, to assets/.

The portrait is scikit-image's `astronaut`: Eileen Collins, by NASA, in the public domain.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from gfpgan_core import images
from train.degradations import add_noise, jpeg
from train.kernels import Axes, blur_kernel

_ASSETS = Path(__file__).parent.parent / "assets"


def main() -> None:
    argparse.ArgumentParser(prog="python -m scripts.make_sample", description=__doc__).parse_args()
    portrait = data.astronaut()
    # Its face is 3 times smaller than the 512 px template: to the network this is 3x downsampling.
    blurred = np.asarray(cv2.filter2D(portrait, -1, blur_kernel(Axes(0.9, 0.9))), np.uint8)
    degraded = jpeg(add_noise(blurred, 8, np.random.default_rng(0)), 70)
    images.write(_ASSETS / "sample.jpg", images.encode(portrait, None, "jpg"))
    images.write(_ASSETS / "sample_degraded.jpg", images.encode(degraded, None, "jpg"))


if __name__ == "__main__":
    main()
