"""Share of faces found over their height, how they fill the frame, their pose and their tilt.

    python -m scripts.detection_recall FACES --every 20

FACES is a folder of aligned 512 px faces (as `scripts.prepare_faces` writes them): their landmarks
are the template's, so that each photo made of them comes with the truth. A face counts as found
where the mean distance of five landmarks from the truth is at most 0.3 of the template's eye
distance there. Seconds and megapixels that the network saw are means over one photo.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfpgan_core import geometry, images
from gfpgan_core.detect import FaceDetector, load_detector
from gfpgan_core.detectors import Face
from gfpgan_core.geometry import TEMPLATE_LANDMARKS, Points, Transform, chain, scaling, translation
from gfpgan_core.images import ImageU8

FACE_HEIGHT_PX = 330
"""From the hairline to the chin of an aligned face of 512 px."""

_HEIGHTS_PX = (8, 12, 16, 24, 32, 48, 69, 100, 200, 400, 1600, 4000)
_SCENE_HEIGHTS_PX = (8, 12, 24, 69, 200)
# Left, top, right, bottom in the aligned face of 512 px.
_FRAMES = {
    "hairline to chin": (96, 120, 416, 450),
    "brows to chin": (130, 190, 382, 442),
    "eyes to mouth": (156, 205, 356, 405),
}
_FRAME_SIDES_PX = (100, 400, 800, 1600, 3200)
_TILTS_DEG = (0, 30, 60, 90, 135, 180, 270)
_WIDTHS = (1.0, 0.8, 0.6, 0.5, 0.4)
"""Of a face squeezed sideways as a turned head's eyes and mouth are."""
_SCENE_WH = (900, 600)
_FOUND = 0.3


@dataclass(frozen=True)
class Case:
    """A photo of one face."""

    photo: ImageU8
    landmarks: Points
    """(5, 2) in the photo."""
    size_px: float
    """The template's eye distance in the photo."""


Make = Callable[[ImageU8], Case]


def seen_through(photo_from_crop: Transform, size_wh: tuple[int, int]) -> Make:
    """The aligned face through a transform; beyond it, its outermost pixels."""

    def make(crop: ImageU8) -> Case:
        photo = geometry.warp(crop, photo_from_crop, size_wh, border=1)  # cv2.BORDER_REPLICATE
        landmarks = geometry.apply(photo_from_crop, TEMPLATE_LANDMARKS)
        size = geometry.eye_distance(TEMPLATE_LANDMARKS) * geometry.scale_of(photo_from_crop)
        return Case(np.asarray(photo, np.uint8), landmarks, size)

    return make


def framed(box: tuple[int, int, int, int], side_px: int) -> Make:
    """A part of the aligned face fills the photo, whose shorter side is given."""
    left, top, right, bottom = box
    factor = side_px / min(right - left, bottom - top)
    size_wh = (round((right - left) * factor), round((bottom - top) * factor))
    resized = scaling((right - left, bottom - top), size_wh)
    return seen_through(chain(resized, translation(-left, -top)), size_wh)


def in_scene(height_px: int) -> Make:
    """The face, `height_px` high, amid the gray of a photo of half a megapixel."""
    side = max(2, round(512 * height_px / FACE_HEIGHT_PX))
    resized = framed((0, 0, 512, 512), side)
    corner = np.array([(_SCENE_WH[0] - side) // 2, (_SCENE_WH[1] - side) // 3])

    def make(crop: ImageU8) -> Case:
        face = resized(crop)
        photo = np.full((_SCENE_WH[1], _SCENE_WH[0], 3), 127, np.uint8)
        top, left = max(0, corner[1]), max(0, corner[0])
        photo[top : top + side, left : left + side] = face.photo[: _SCENE_WH[1]]
        return Case(photo, face.landmarks + np.array([left, top]), face.size_px)

    return make


def tilted(degrees: float) -> Make:
    """The face tilted about its middle, 150 px high in a photo of 600 x 600 px."""
    scale, angle = 150 / FACE_HEIGHT_PX, np.deg2rad(degrees)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    return seen_through(np.column_stack([turn, 300 - turn @ np.full(2, 256.0)]), (600, 600))


def squeezed(width: float, height_px: int) -> Make:
    """The face narrowed, `height_px` high, in a photo of twice that."""
    scale, side = height_px / FACE_HEIGHT_PX, 2 * height_px
    matrix = np.diag([scale * width, scale])
    make = seen_through(np.column_stack([matrix, side / 2 - matrix @ [256.0, 300]]), (side, side))
    return lambda crop: dataclasses.replace(
        make(crop), size_px=scale * geometry.eye_distance(TEMPLATE_LANDMARKS)
    )


def tables() -> Iterator[tuple[str, dict[str, Make]]]:
    """Each table's name, and its rows."""
    alone = {f"{h} px": framed((0, 0, 512, 512), max(2, round(512 * h / 330))) for h in _HEIGHTS_PX}
    yield "face height, the aligned crop alone", alone
    yield "face height in a photo of 900 x 600", {f"{h} px": in_scene(h) for h in _SCENE_HEIGHTS_PX}
    for name, box in _FRAMES.items():
        yield (
            f"frame filled by {name}, short side",
            {f"{side} px": framed(box, side) for side in _FRAME_SIDES_PX},
        )
    yield "tilt", {f"{tilt} degrees": tilted(tilt) for tilt in _TILTS_DEG}
    for height in (69, 300):
        yield (
            f"width of a face {height} px high",
            {f"{100 * width:.0f} %": squeezed(width, height) for width in _WIDTHS},
        )


@dataclass
class Counted:
    """A raw detector that adds up the megapixels it is given."""

    detector: FaceDetector
    megapixels: float = 0.0

    def __post_init__(self) -> None:
        self.detector = dataclasses.replace(self.detector, raw=self._count(self.detector.raw))

    def _count(self, raw: Callable[..., list[list[Face]]]) -> Callable[..., list[list[Face]]]:
        def counted(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
            self.megapixels += sum(i.shape[0] * i.shape[1] for i in batch) / 1e6
            return raw(batch, min_score)

        return counted


def measure(counted: Counted, make: Make, paths: list[Path]) -> str:
    """One row: the share found, their error, other faces, seconds and megapixels."""
    errors, others, seconds = [], 0, 0.0
    counted.megapixels = 0.0
    for path in paths:
        case = make(images.read_rgb(path))
        started = time.perf_counter()
        faces = counted.detector(case.photo)
        seconds += time.perf_counter() - started
        apart = [np.linalg.norm(f.landmarks - case.landmarks, axis=1).mean() for f in faces]
        errors.append(min(apart, default=np.inf) / case.size_px)
        others += len(faces) - (errors[-1] <= _FOUND)
    found = np.array([error for error in errors if error <= _FOUND])
    error = f"{100 * found.mean():.1f} %" if len(found) else "-"
    count = len(paths)
    return (
        f"{len(found)} of {count} | {error} | {others} |"
        f" {seconds / count:.3f} | {counted.megapixels / count:.2f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="folder of aligned 512 px faces")
    parser.add_argument("--every", type=int, default=20, help="take each n-th face, default: 20")
    parser.add_argument("--first", type=int, default=0, help="begin with this one, default: 0")
    parser.add_argument("--only", default="", help="tables whose name holds this")
    parser.add_argument("--rows", nargs="*", help="rows of these names only")
    parser.add_argument("--detector", default="centerface", help="default: centerface")
    options = parser.parse_args()
    paths = [p for p in sorted(options.faces.iterdir()) if p.suffix.lower() in images.SUFFIXES]
    paths = paths[options.first :: options.every]
    counted = Counted(load_detector(options.detector))
    for name, rows in tables():
        if options.only not in name:
            continue
        print(f"\n| {name} | found | error | others | seconds | megapixels |")
        print("|---|---|---|---|---|---|")
        for label, make in rows.items():
            if options.rows and label not in options.rows:
                continue
            print(f"| {label} | {measure(counted, make, paths)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
