"""Measure `blend="auto"` against blend 1 and the input, at the named strengths and undamaged.

    python -m scripts.measure_blend ~/.cache/gfpgan-compact/faces/512/report

Every face is degraded with a fixed seed. The table shows the mean PSNR of the aligned crop in dB,
and the shares that `auto` took: mean, smallest and largest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from skimage.metrics import peak_signal_noise_ratio

from gfpgan_core.damage import damage_of
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.images import ImageU8
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.load import load, load_file
from train.dataset import load_face
from train.faces import Faces, open_faces
from train.validate import degraded_pair, restore, strengths_at

_HEADER = "| damage | input | blend 1 | blend auto | share |\n|---|---|---|---|---|"


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path, help="folder, zip, tar or LMDB of aligned faces")
    parser.add_argument("--weights", type=Path, help="default: the shipped compact weights")
    parser.add_argument("--number", type=int, help="of faces, evenly taken; default: all")
    options = parser.parse_args(arguments)
    try:
        faces = open_faces(options.faces)
        network = load_file(options.weights) if options.weights else load("compact")
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    assert isinstance(network, GFPGAN)
    step = max(1, len(faces) // (options.number or len(faces)))
    print(_HEADER)
    for strength in ("none", *strengths_at(network.config.face_size_px)):
        print(_row(strength, network, faces, range(0, len(faces), step)), flush=True)
    return 0


def _row(strength: str, network: GFPGAN, faces: Faces, numbers: range) -> str:
    results = [_measured(strength, network, faces, number) for number in numbers]
    before, full, auto, shares = np.array(results).T
    return (
        f"| {strength} | {before.mean():.2f} | {full.mean():.2f} | {auto.mean():.2f} |"
        f" {shares.mean():.2f} ({shares.min():.2f} to {shares.max():.2f}) |"
    )


def _measured(
    strength: str, network: GFPGAN, faces: Faces, number: int
) -> tuple[float, float, float, float]:
    """Return the PSNR of input, blend 1 and blend auto, and auto's share."""
    side_px = network.config.face_size_px
    if strength == "none":
        lq = gt = load_face(faces, faces.names[number], side_px)
    else:
        lq, gt = degraded_pair(faces, number, strengths_at(side_px)[strength], side_px)
    restored = restore(network, lq, "cpu")
    share = damage_of(lq).blend
    mixed = np.asarray(cv2.addWeighted(restored, share, lq, 1 - share, 0), np.uint8)
    return _psnr_db(lq, gt), _psnr_db(restored, gt), _psnr_db(mixed, gt), share


def _psnr_db(image: ImageU8, gt: ImageU8) -> float:
    """Return infinity for equal pictures."""
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(gt, image, data_range=255))


if __name__ == "__main__":
    sys.exit(main())
