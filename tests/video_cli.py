"""The command line with a tiny network and a detector that sees a white square: for tests that kill
or measure a real process.

    python tests/video_cli.py KILLED_AT video INPUT OUTPUT ...

`KILLED_AT` is the frame, counted by the detector, at which the process kills itself; 0: never. At
its end it prints its peak memory in MiB.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
from conftest import TINIEST, random_network
from video_files import MARK_PX

from gfpgan_core.__main__ import main
from gfpgan_core.cli import video
from gfpgan_core.detect import Detection
from gfpgan_core.detectors import Face
from gfpgan_core.geometry import TEMPLATE_LANDMARKS
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from scripts.process_memory import process_memory_mib


class SquareDetector:
    """Finds the white square of `video_files.moving` as a face, with a jitter of one pixel."""

    def __init__(self, killed_at: int = 0) -> None:
        self._killed_at = killed_at
        self.calls = 0

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        self.calls += 1
        if self.calls == self._killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        rows, columns = np.nonzero(image.min(axis=2) > 225)
        if len(rows) < MARK_PX:
            return Detection()
        middle = np.array([columns.mean(), rows.mean()]) + int(image.sum()) % 3 - 1
        landmarks = (TEMPLATE_LANDMARKS - 256) * (MARK_PX / 200) + middle
        box = np.concatenate([middle - MARK_PX, middle + MARK_PX])
        return Detection([Face(box, landmarks, 0.9, 0.9, is_placed=True)])


def restorer(killed_at: int = 0) -> FaceRestorer:
    """A tiny network behind that detector."""
    return FaceRestorer(random_network(3, TINIEST), SquareDetector(killed_at))


def command(killed_at: int, *arguments: object) -> list[str]:
    """What to run for `gfpgan video ARGUMENTS`."""
    return [sys.executable, __file__, str(killed_at), "video", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Where the program finds the package; threads of a tiny network only wait for each other."""
    root = str(Path(__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    vars(video)["load_restorer"] = lambda _: restorer(int(sys.argv[1]))
    status = main(sys.argv[2:])
    print(process_memory_mib(what="VmHWM"))
    sys.exit(status)
