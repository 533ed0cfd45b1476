"""Measure what `GFPGANer.enhance` costs beside the one call of `FaceRestorer.restore` in it.

Seconds of this process on one thread: both times are of the same call, so that what else the
machine does is in both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

from gfpgan_core import FaceRestorer, geometry, images
from gfpgan_core.upstream import GFPGANer

SAMPLE = Path(__file__).parent.parent / "assets" / "sample_degraded.jpg"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=1024, help="of the square photo, px")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--version", default="compact")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rgb = geometry.resize(images.read_rgb(SAMPLE), (options.side, options.side))
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    enhancer = GFPGANer(options.version, upscale=2, device="cpu")
    inner: list[float] = []
    restore = FaceRestorer.restore

    def timed(self: FaceRestorer, *given: Any, **more: Any) -> Any:
        started = time.process_time()
        restoration = restore(self, *given, **more)
        inner.append(time.process_time() - started)
        return restoration

    whole: list[float] = []
    with mock.patch.object(FaceRestorer, "restore", timed):
        for _ in range(options.turns + 1):
            started = time.process_time()
            enhancer.enhance(bgr)
            whole.append(time.process_time() - started)
    shares = [w / i - 1 for w, i in zip(whole[1:], inner[1:], strict=True)]  # the first warms up
    seconds = statistics.median(inner[1:]), statistics.median(whole[1:])
    print(f"restore {seconds[0]:.3f} s, enhance {seconds[1]:.3f} s")
    print(f"enhance's own share: {100 * statistics.median(shares):.2f} % of restore")


if __name__ == "__main__":
    main()
