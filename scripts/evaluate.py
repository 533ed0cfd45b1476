"""Measures weights on faces that they were not trained on, and draws them.

    python -m scripts.evaluate faces/heldout --config configs/compact.yaml --sheet sheet.png

Every face is degraded with a fixed seed, by the configuration's `validation_degradation`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from gfpgan_core import images, weights
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from train.config import load_config
from train.dataset import list_faces
from train.degradations import DegradationConfig
from train.validate import degraded_pair, validate

_SHEET_FACES = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="folder of aligned faces")
    parser.add_argument("--config", type=Path, required=True, help="names the degradation")
    parser.add_argument("--weights", type=Path, help="default: the shipped compact weights")
    parser.add_argument("--sheet", type=Path, help="PNG of input, output and ground truth")
    options = parser.parse_args()
    try:
        degradation = load_config(options.config, []).validation_degradation
        paths = list_faces(options.faces)
        network = weights.load_file(options.weights) if options.weights else weights.load("compact")
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    assert isinstance(network, GFPGAN)
    result = validate(network, paths, degradation, "cpu")
    before, after = result.degraded, result.restored
    print(f"faces       {result.faces}")
    print(f"parameters  {weights.parameter_count(network):,}")
    print(f"PSNR        {before.psnr_db:.2f} dB -> {after.psnr_db:.2f} dB")
    print(f"SSIM        {before.ssim:.4f} -> {after.ssim:.4f}")
    print(f"seconds     {_seconds_a_face(network):.2f} a face, {torch.get_num_threads()} threads")
    if options.sheet:
        _draw(network, paths, degradation, options.sheet)
    return 0


@torch.inference_mode()
def _seconds_a_face(network: GFPGAN) -> float:
    """The median of ten runs after one to warm up."""
    lq = torch.zeros(1, 3, network.config.face_size_px, network.config.face_size_px)
    times = []
    for _ in range(11):
        started = time.perf_counter()
        network(lq)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


@torch.inference_mode()
def _draw(network: GFPGAN, paths: list[Path], degradation: DegradationConfig, target: Path) -> None:
    """Rows of input, output, ground truth; every n-th face, so that the sheet is varied."""
    rows = []
    for number in range(0, len(paths), max(1, len(paths) // _SHEET_FACES))[:_SHEET_FACES]:
        lq, gt = degraded_pair(paths[number], number, degradation, network.config.face_size_px)
        restored = images.from_pm1(network(images.to_pm1(lq)[None])[0][0])
        rows.append(np.hstack([lq, restored, gt]))
    images.write(target, images.encode(np.vstack(rows), None, "png"))


if __name__ == "__main__":
    sys.exit(main())
