"""Faces found by each detector at its defaults, against RetinaFace at the photos' full resolution.

    python -m scripts.compare_detectors PHOTOS RETINAFACE.pth --aligned FACES

A Markdown table: of the reference's faces from 12 px between the eyes up, how many each detector
finds, and how far its landmarks lie from the reference's, in percent of the eye distance. The
reference errs too: a column tells how far it lies from itself when the photo's first 7 rows and 5
columns are cut off, and how far all of them are from the truth is measured on faces that were
aligned by precise landmarks, where the truth is the template's, and on the same faces made smaller.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfpgan_core import geometry, images
from gfpgan_core.detect import FaceDetector, load_detector
from gfpgan_core.detectors import Face, RawDetector, retinaface
from gfpgan_core.geometry import eye_distance
from gfpgan_core.images import ImageU8

_MIN_EYE_DISTANCE_PX = 12
_MIN_REFERENCE_SCORE = 0.8  # below it, RetinaFace mobilenet0.25 sees faces in hands and foliage
_CUT_XY = np.array([5, 7])  # no multiple of a detector's stride
_EYE_DISTANCES_PX = (12, 24, 48, 126)  # of the aligned faces made smaller; 126 is their own


def nearest(face: Face, found: list[Face]) -> float:
    """Return the landmarks' mean distance to those of the nearest face found, in eye distances."""
    distances = [np.linalg.norm(face.landmarks - f.landmarks, axis=1).mean() for f in found]
    return float(min(distances, default=np.inf)) / eye_distance(face.landmarks)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("retinaface", type=Path, help="weights of RetinaFace mobilenet0.25")
    parser.add_argument("--aligned", type=Path, help="folder of aligned 512 px faces")
    parser.add_argument("--short-side", type=int, nargs="*", default=[], help="besides the default")
    options = parser.parse_args()
    raw = retinaface(options.retinaface, "retinaface-mobilenet", "cpu")
    detectors: dict[str, Callable[[ImageU8], list[Face]]] = {
        "centerface": load_detector("centerface"),
        "retinaface-mobilenet": FaceDetector("retinaface-mobilenet", raw),
    }
    for side in options.short_side:
        detectors[f"centerface {side} px"] = load_detector("centerface", short_side_px=side)
    columns = ("photo", "reference", "reference, photo cut", *detectors)
    print("|", *(f"{name} |" for name in columns))
    print("|" + "---|" * len(columns))
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
            lost = ", ".join(
                f"{eye_distance(f.landmarks):.0f} px, score {f.score:.2f}"
                for f, a in zip(reference, apart, strict=True)
                if a >= 1
            )
            cells.append(
                f"{np.sum(apart < 1)} of {len(reference)}{f' (lost: {lost})' if lost else ''},"
                f" {_percent(apart)}, {len(found)} in all, {seconds:.2f} s"
            )
        again = cut_away(raw, image)
        itself = _percent(np.array([nearest(face, again) for face in reference]))
        row = (path.stem, str(len(reference)), itself, *cells)
        print("|", *(f"{cell} |" for cell in row), flush=True)
    if options.aligned:
        detectors["the reference"] = lambda image: raw([image], _MIN_REFERENCE_SCORE)[0]
        sizes = [f"{size} px" for size in _EYE_DISTANCES_PX]
        print("\n| landmarks off the truth, eye distance of |", *(f"{size} |" for size in sizes))
        print("|---|" + "---|" * len(sizes))
        for name, detect in detectors.items():
            cells = [error_on_aligned(detect, options.aligned, s) for s in _EYE_DISTANCES_PX]
            print(f"| {name} |", *(f"{cell} |" for cell in cells), flush=True)
    return 0


def cut_away(raw: RawDetector, image: ImageU8) -> list[Face]:
    """Return the reference's faces once more, the photo's first rows and columns cut off."""
    left, top = _CUT_XY
    (found,) = raw([np.ascontiguousarray(image[top:, left:])], _MIN_REFERENCE_SCORE / 2)
    return [dataclasses.replace(face, landmarks=face.landmarks + _CUT_XY) for face in found]


def _percent(apart: NDArray[np.float64]) -> str:
    there = 100 * apart[apart < 1]
    return f"{np.median(there):.1f} % (largest {there.max():.1f})" if len(there) else "none"


def error_on_aligned(
    detect: Callable[[ImageU8], list[Face]], folder: Path, eye_distance_px: int
) -> str:
    """Return the landmarks' mean distance from the template's, over every fourth face."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in images.SUFFIXES)[::4]
    template = geometry.TEMPLATE_LANDMARKS
    side = min(512, round(512 * eye_distance_px / eye_distance(template)))
    to_small = geometry.scaling((512, 512), (side, side))
    # Amid gray of a photo's size, where a detector looks as it does in a photo.
    margin = (512 - side) // 2
    landmarks = geometry.apply(to_small, template) + margin
    truth = Face(np.zeros(4), landmarks, 1.0)
    distances = []
    for path in paths:
        photo = np.full((side + 2 * margin, side + 2 * margin, 3), 127, np.uint8)
        small = geometry.resize(images.read_rgb(path), (side, side))
        photo[margin : margin + side, margin : margin + side] = small
        distances.append(nearest(truth, detect(photo)))
    there = 100 * np.array([distance for distance in distances if distance < 1])
    return f"{there.mean():.1f} % ({len(there)} of {len(paths)})"


if __name__ == "__main__":
    sys.exit(main())
