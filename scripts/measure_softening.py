"""Measure what softening a restored face toward its surroundings would do: see docs/blend.md.

    python -m scripts.measure_softening ~/.cache/gfpgan-compact/faces/512/report --number 8

Faces are degraded with a fixed seed, restored with `blend="auto"`, and softened by a Gaussian: of a
fixed width, or of the width that gives their edges those of the surroundings, in the degraded crop.
The tables show how wide edges are, and the PSNR (dB) and SSIM of the face against the truth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from gfpgan_core.damage import damage_of
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.images import ImageU8
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.load import load
from train.faces import Faces, open_faces
from train.validate import degraded_pair, restore, strengths_at

Mask = NDArray[np.bool_]

_FINE_PX, _COARSE_PX = 0.7, 2.8  # as in gfpgan_core.damage
_DIFFERENCE_VARIANCE = 1 / 3  # of the difference over two pixels that a slope is taken by
_STRONG_EDGES = 99
_FIXED_PX = (0.0, 0.8, 1.2)
_MOST_PX = (1.2, 2.4)  # of the Gaussian that fits a face to its surroundings
_HEADER = (
    "| damage | edges around, px | of the face | of the truth's face |"
    + "".join(f" by {sigma:g} px |" if sigma else " not softened |" for sigma in _FIXED_PX)
    + "".join(f" as around, at most {most:g} px |" for most in _MOST_PX)
)


def main(arguments: list[str] | None = None) -> int:
    """Print the table; return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path, help="folder, zip, tar or LMDB of aligned faces")
    parser.add_argument("--number", type=int, help="of faces, evenly taken; default: all")
    options = parser.parse_args(arguments)
    try:
        faces, network = open_faces(options.faces), load("compact")
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    assert isinstance(network, GFPGAN)
    step = max(1, len(faces) // (options.number or len(faces)))
    print(f"{_HEADER}\n{'|---' * (_HEADER.count('|') - 1)}|")
    for strength in strengths_at(network.config.face_size_px):
        rows = [_measured(strength, network, faces, n) for n in range(0, len(faces), step)]
        means = np.mean(rows, axis=0)
        widths = " | ".join(f"{width:.2f}" for width in means[:3])
        pairs = means[3:].reshape(-1, 2)
        figures = " | ".join(f"{psnr:.2f}, {ssim:.3f}" for psnr, ssim in pairs)
        print(f"| {strength} | {widths} | {figures} |", flush=True)
    return 0


def edge_width_px(image: ImageU8, where: Mask) -> float:
    """Return the sigma in pixels of the Gaussian that a step's edge looks blurred by.

    Told by how much steeper the strongest edges are at a fine scale than at a coarse one.
    """
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine, coarse = (
        float(np.percentile(_slope(luma, scale)[where], _STRONG_EDGES))
        for scale in (_FINE_PX, _COARSE_PX)
    )
    # A step blurred by w is at a scale s as steep as one of sqrt(s^2 + w^2).
    ratio = (fine / max(coarse, 1e-6)) ** 2
    if ratio <= 1.001:  # hardly steeper: wider than can be told
        return float("inf")
    variance = (_COARSE_PX**2 - ratio * _FINE_PX**2) / (ratio - 1) - _DIFFERENCE_VARIANCE
    return float(np.sqrt(max(0.0, variance)))


def _slope(luma: NDArray[np.float32], scale_px: float) -> NDArray[np.float32]:
    smooth = cv2.GaussianBlur(luma, (0, 0), scale_px)
    across, down = (cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(across, down), np.float32)


def _face_oval(side_px: int) -> Mask:
    rows, columns = np.mgrid[:side_px, :side_px] / side_px
    return np.asarray(((columns - 0.5) / 0.3) ** 2 + ((rows - 0.58) / 0.38) ** 2 < 1)


def _measured(strength: str, network: GFPGAN, faces: Faces, number: int) -> list[float]:
    """Return three widths of edges, then PSNR and SSIM of each way to soften."""
    side_px = network.config.face_size_px
    face = _face_oval(side_px)
    lq, gt = degraded_pair(faces, number, strengths_at(side_px)[strength], side_px)
    share = damage_of(lq).blend
    mixed = np.asarray(
        cv2.addWeighted(restore(network, lq, "cpu"), share, lq, 1 - share, 0), np.uint8
    )
    around, inside = edge_width_px(lq, ~face), edge_width_px(mixed, face)
    wanted = np.sqrt(max(0.0, around**2 - inside**2))
    figures = [around, inside, edge_width_px(gt, face)]
    for sigma in (*_FIXED_PX, *(min(wanted, most) for most in _MOST_PX)):
        soft = cv2.GaussianBlur(mixed, (0, 0), sigma) if sigma > 0 else mixed
        figures += _quality(np.asarray(soft, np.uint8), gt, face)
    return figures


def _quality(image: ImageU8, gt: ImageU8, where: Mask) -> list[float]:
    error = np.square(image.astype(float) - gt)[where].mean()
    _, map_of = structural_similarity(image, gt, channel_axis=2, data_range=255, full=True)
    return [float(10 * np.log10(255**2 / error)), float(map_of[where].mean())]


if __name__ == "__main__":
    sys.exit(main())
