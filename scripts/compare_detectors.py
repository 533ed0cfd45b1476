"""Faces found by each detector at its defaults, against RetinaFace at the photos' full resolution.

    python -m scripts.compare_detectors PHOTOS RETINAFACE.pth --aligned FACES

A Markdown table: of the reference's faces from 12 px between the eyes up, how many each detector
finds, and how far its landmarks lie from the reference's, in percent of the eye distance. The
reference errs too: how far all of them are from the truth is measured on faces that were aligned by
precise landmarks, where the truth is the template's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gfpgan_core import geometry, images
from gfpgan_core.detect import Face, FaceDetector, load_detector, retinaface
from gfpgan_core.geometry import eye_distance
from gfpgan_core.images import ImageU8

_MIN_EYE_DISTANCE_PX = 12
_MIN_REFERENCE_SCORE = 0.8  # below it, RetinaFace mobilenet0.25 sees faces in hands and foliage


def nearest(face: Face, found: list[Face]) -> float:
    """The mean distance of the landmarks to those of the nearest face found, in eye distances."""
    distances = [np.linalg.norm(face.landmarks - f.landmarks, axis=1).mean() for f in found]
    return float(min(distances, default=np.inf)) / eye_distance(face.landmarks)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("retinaface", type=Path, help="weights of RetinaFace mobilenet0.25")
    parser.add_argument("--aligned", type=Path, help="folder of aligned 512 px faces")
    parser.add_argument("--short-side", type=int, nargs="*", default=[], help="besides the default")
    options = parser.parse_args()
    raw = retinaface(options.retinaface, "retinaface-mobilenet0.25", "cpu")
    detectors: dict[str, Callable[[ImageU8], list[Face]]] = {
        "centerface": load_detector("centerface"),
        "retinaface-mobilenet0.25": FaceDetector("retinaface-mobilenet0.25", raw),
    }
    for side in options.short_side:
        detectors[f"centerface {side} px"] = load_detector("centerface", short_side_px=side)
    print("| photo | reference |", *(f"{name} |" for name in detectors))
    print("|---|---|" + "---|" * len(detectors))
    for path in sorted(p for p in options.photos.iterdir() if p.suffix.lower() in images.SUFFIXES):
        image = images.read_rgb(path)
        reference = [
            face
            for face in raw([image], _MIN_REFERENCE_SCORE)[0]
            if eye_distance(face.landmarks) >= _MIN_EYE_DISTANCE_PX
        ]
        cells = []
        for detect in detectors.values():
            started = time.perf_counter()
            found = detect(image)
            seconds = time.perf_counter() - started
            apart = np.array([nearest(face, found) for face in reference])
            there = apart[apart < 1]
            lost = ", ".join(
                f"{eye_distance(f.landmarks):.0f} px, score {f.score:.2f}"
                for f, a in zip(reference, apart, strict=True)
                if a >= 1
            )
            cells.append(
                f"{len(there)} of {len(reference)}{f' (lost: {lost})' if lost else ''},"
                f" {100 * np.median(there):.1f} % (largest {100 * there.max():.1f}),"
                f" {len(found)} in all, {seconds:.2f} s"
            )
        print(f"| {path.stem} | {len(reference)} |", *(f"{cell} |" for cell in cells), flush=True)
    if options.aligned:
        detectors["the reference"] = lambda image: raw([image], _MIN_REFERENCE_SCORE)[0]
        for name, detect in detectors.items():
            print(f"{name}: {error_on_aligned(detect, options.aligned)}")
    return 0


def error_on_aligned(detect: Callable[[ImageU8], list[Face]], folder: Path) -> str:
    """The mean distance of the landmarks from the template's, over every fourth face."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in images.SUFFIXES)[::4]
    truth = Face(np.zeros(4), geometry.TEMPLATE_LANDMARKS, 1.0)
    distances = np.array([nearest(truth, detect(images.read_rgb(path))) for path in paths])
    there = distances[distances < 1]
    return (
        f"{len(there)} of {len(paths)} aligned faces, landmarks {100 * there.mean():.1f} % of the"
        " eye distance from the truth"
    )


if __name__ == "__main__":
    sys.exit(main())
