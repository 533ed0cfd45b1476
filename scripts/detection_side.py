"""One side of `scripts.detection_recall`: a process that detects with the package of its path.

It is started by `Side` with another checkout's `gfpgan_core`, too, whose detector is called the
same way: nothing else of the package is used. It reads photos, a line of height and width and then
their pixels, from its standard input, and answers each with a line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Seen:
    """What was found in one photo, and what it cost."""

    landmarks: NDArray[np.float64]
    """(N, 5, 2) in the photo."""
    seconds: float
    """Of the processor, in one thread: other processes don't count."""
    megapixels: float
    """That the network saw."""


class Side:
    """The detector of a checkout, in a process of its own."""

    def __init__(self, checkout: Path, detector: str) -> None:
        single = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), detector],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **single, "PYTHONPATH": str(checkout.resolve())},
        )

    def __call__(self, photo: NDArray[np.uint8]) -> Seen:
        """Detect in (H, W, 3) RGB.

        Raises:
            RuntimeError: the process ended; its traceback is on the standard error.
        """
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(b"%d %d\n" % photo.shape[:2] + photo.tobytes())
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the detector's process ended")
        answer = json.loads(line)
        landmarks = np.array(answer["landmarks"], np.float64).reshape(-1, 5, 2)
        return Seen(landmarks, answer["seconds"], answer["megapixels"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> int:
    """Answer photos until the standard input ends."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("detector")
    name = parser.parse_args().detector
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    _use_one_thread()
    from gfpgan_core.detect import load_detector

    megapixels = 0.0

    def counted(raw: Callable[..., Any]) -> Callable[..., Any]:
        def detect(batch: list[NDArray[np.uint8]], min_score: float) -> Any:
            nonlocal megapixels
            megapixels += sum(image.shape[0] * image.shape[1] for image in batch) / 1e6
            return raw(batch, min_score)

        return detect

    detector = load_detector(name)
    detector = dataclasses.replace(detector, raw=counted(detector.raw))
    with open(0, "rb") as photos:
        while size := photos.readline():
            height, width = map(int, size.split())
            pixels = np.frombuffer(photos.read(height * width * 3), np.uint8)
            photo = pixels.reshape(height, width, 3)
            megapixels, started = 0.0, time.process_time()
            faces = detector(photo)
            seconds = time.process_time() - started
            found = [np.asarray(face.landmarks).tolist() for face in faces]
            line = {"landmarks": found, "seconds": seconds, "megapixels": megapixels}
            print(json.dumps(line), file=answers, flush=True)
    return 0


def _use_one_thread() -> None:
    """Keep OpenCV and ONNX Runtime to one thread."""
    import onnxruntime

    session = onnxruntime.InferenceSession

    def on_one_thread(model: bytes, options: Any = None, **rest: Any) -> Any:
        options = options or onnxruntime.SessionOptions()  # earlier versions give none
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return session(model, options, **rest)

    onnxruntime.InferenceSession = on_one_thread
    cv2.setNumThreads(1)


if __name__ == "__main__":
    sys.exit(main())
