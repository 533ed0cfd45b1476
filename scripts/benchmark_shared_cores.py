"""Time our networks alone and beside busy processes, with OpenMP's threads asleep or spinning.

    python -m scripts.benchmark_shared_cores

A table of medians and worst times in seconds; nothing else may run meanwhile. `ratio` is the median
beside one busy process over that alone. Each cell is a process of its own, on random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLE = Path(__file__).parent.parent / "assets" / "sample.jpg"

PARTS = ("compact", "v1.4", "detection", "parsing")
POLICIES = ("PASSIVE", "ACTIVE")
LOADS = {"alone": (0, 0), "1 busy": (1, 0), "2 busy": (2, 0), "1 of lower priority": (1, 19)}
_RUNS = {"compact": 25, "v1.4": 5, "detection": 10, "parsing": 4}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="default: all")
    parser.add_argument("--measure", choices=PARTS, help=argparse.SUPPRESS)  # one cell
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(_measure(options.measure)))
        return
    print(f"| network | OpenMP's threads | {' | '.join(LOADS)} | ratio |")
    print("|---" * (len(LOADS) + 3) + "|")
    for part in options.only or PARTS:
        for policy in POLICIES:
            cells = [_beside(part, policy, *load) for load in LOADS.values()]
            texts = [f"{median:.3f} (worst {worst:.3f})" for median, worst in cells]
            ratio = cells[1][0] / cells[0][0]
            print(f"| {part} | {policy.lower()} | {' | '.join(texts)} | {ratio:.2f} |", flush=True)


def _beside(part: str, policy: str, busy: int, niceness: int) -> tuple[float, float]:
    """Return the median and the worst seconds beside some busy processes."""
    spin = ["nice", "-n", str(niceness), sys.executable, "-c", "while True: pass"]
    others = [subprocess.Popen(spin) for _ in range(busy)]
    command = [sys.executable, "-m", "scripts.benchmark_shared_cores", "--measure", part]
    environment = os.environ | {"OMP_WAIT_POLICY": policy}
    try:
        result = subprocess.run(command, env=environment, capture_output=True, check=True)
    finally:
        for other in others:
            other.kill()
    median, worst = json.loads(result.stdout.splitlines()[-1])
    return median, worst


def _measure(part: str) -> tuple[float, float]:
    from gfpgan_core.runtime import configure_process

    configure_process()
    run = _work(part)
    run()
    seconds = []
    for _ in range(_RUNS[part]):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[len(seconds) // 2], max(seconds)


def _work(part: str) -> Callable[[], object]:
    import torch

    from gfpgan_core import geometry, images
    from gfpgan_core.backends import load_backend
    from gfpgan_core.config import GeneratorConfig
    from gfpgan_core.detect import load_detector
    from gfpgan_core.networks.gfpgan import GFPGAN
    from gfpgan_core.weights.load import load

    torch.manual_seed(0)
    if part == "detection":
        detector = load_detector("centerface")
        photo = np.asarray(geometry.resize(images.read_rgb(_SAMPLE), (1920, 1297)), np.uint8)
        return lambda: detector.find(photo)
    lq = torch.rand(1, 3, 512, 512) * 2 - 1
    if part == "parsing":
        scores = _parser()
        return lambda: scores(lq)
    network = load("compact") if part == "compact" else GFPGAN(GeneratorConfig()).eval()
    run = load_backend(network.requires_grad_(False))
    return lambda: run(lq)


def _parser() -> Callable[[Tensor], Tensor]:
    """Return ParseNet as it serves, with random weights."""
    import torch

    from gfpgan_core.masks import PARSERS, load_parser

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "parsing.pth"
        torch.save(PARSERS["parsing"].build().state_dict(), path)
        return load_parser(PARSERS["parsing"], path, "cpu")


if __name__ == "__main__":
    main()
