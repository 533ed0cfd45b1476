"""Measures weights on faces that they were not trained on, at three strengths, and draws them.

    python -m scripts.evaluate faces/heldout --sheet sheet.png

Every face is degraded with a fixed seed. The table shows input -> output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from gfpgan_core import images
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.load import load, load_file, parameter_count
from train.degradation_config import STRENGTHS
from train.faces import open_faces
from train.validate import validate, validation_sheet


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="folder, zip, tar or LMDB of aligned faces")
    parser.add_argument("--weights", type=Path, help="default: the shipped compact weights")
    parser.add_argument("--strength", choices=list(STRENGTHS), action="append", help="default: all")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--sheet", type=Path, help="PNG of input, output, truth (at medium)")
    options = parser.parse_args()
    try:
        faces = open_faces(options.faces)
        network = load_file(options.weights) if options.weights else load("compact")
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    assert isinstance(network, GFPGAN)
    seconds = _seconds_a_face(network)
    print(f"{parameter_count(network):,} parameters, {len(faces)} faces,", end=" ")
    print(f"{seconds:.2f} s a face on {torch.get_num_threads()} threads\n")
    print("| strength | PSNR, dB | SSIM | NIQE | sharpness |\n|---|---|---|---|---|")
    figures = {}
    for strength in options.strength or STRENGTHS:
        result = validate(network, faces, STRENGTHS[strength], "cpu")
        figures[strength] = dataclasses.asdict(result)
        a, b = result.degraded, result.restored
        print(
            f"| {strength} | {a.psnr_db:.2f} -> {b.psnr_db:.2f} | {a.ssim:.4f} -> {b.ssim:.4f} |"
            f" {a.niqe:.2f} -> {b.niqe:.2f} | {a.sharpness:.3f} -> {b.sharpness:.3f} |",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.sheet:
        sheet = validation_sheet(network, faces, STRENGTHS["medium"], "cpu")
        images.write(options.sheet, images.encode(sheet, None, "png"))
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


if __name__ == "__main__":
    sys.exit(main())
