"""Share of faces found over their height, how they fill the frame, their pose and their tilt.

    python -m scripts.detection_recall FACES --every 20
    python -m scripts.detection_recall FACES --every 20 --before ../older_checkout
    python -m scripts.detection_recall --photos photo.jpg folder --before ../older_checkout

FACES is a folder of aligned 512 px faces (as `scripts.prepare_faces` writes them): their landmarks
are the template's, so that each photo made of them comes with the truth. A face counts as found
where the mean distance of five landmarks from the truth is at most 0.3 of the template's eye
distance there. Seconds are the processor's, in one thread: each photo is looked at several times,
by both sides in turns, and its median counts. They and the megapixels that the network saw are
means over the photos of a row. `--photos` tells of whole photos what each costs.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfpgan_core import geometry, images
from gfpgan_core.geometry import TEMPLATE_LANDMARKS, Points, Transform, chain, scaling, translation
from gfpgan_core.images import ImageU8
from scripts.detection_side import ROOT, Seen, Side

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


@dataclass(frozen=True)
class Row:
    """What one side makes of the photos of a row."""

    found: str
    error: str
    others: str
    seconds: str
    megapixels: str


def look(sides: list[Side], photo: ImageU8, turns: int) -> list[list[Seen]]:
    """Return what each side sees at each turn; the sides take turns at being first."""
    looks: list[list[Seen]] = [[] for _ in sides]
    for turn in range(turns):
        order = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        for number in order:
            looks[number].append(sides[number](photo))
    return looks


def _median_of(turns: list[Seen]) -> Seen:
    seconds = float(np.median([seen.seconds for seen in turns]))
    return dataclasses.replace(turns[0], seconds=seconds)


def measure(sides: list[Side], make: Make, paths: list[Path], turns: int) -> list[Row]:
    """Return a row's cells, of each side: the share found, their error, other faces, the cost."""
    cases = [make(images.read_rgb(path)) for path in paths]
    by_photo = [map(_median_of, look(sides, case.photo, turns)) for case in cases]
    return [_row(cases, list(seen)) for seen in zip(*by_photo, strict=True)]


def _row(cases: list[Case], looks: list[Seen]) -> Row:
    errors, others = [], 0
    for case, seen in zip(cases, looks, strict=True):
        apart = np.linalg.norm(seen.landmarks - case.landmarks, axis=2).mean(axis=1)
        errors.append(apart.min(initial=np.inf) / case.size_px)
        others += len(apart) - int(errors[-1] <= _FOUND)
    found = np.array([error for error in errors if error <= _FOUND])
    return Row(
        f"{len(found)} of {len(cases)}",
        f"{100 * found.mean():.1f} %" if len(found) else "-",
        str(others),
        f"{np.mean([seen.seconds for seen in looks]):.3f}",
        f"{np.mean([seen.megapixels for seen in looks]):.2f}",
    )


def print_costs(sides: list[Side], paths: list[Path], turns: int) -> None:
    """Print of each photo the faces, the seconds, and how often the first side's the last's are.

    The last is the median over the turns: both sides of one meet the same load by other processes.
    """
    print("\n| photo, px | faces | seconds | megapixels | times |\n|---|---|---|---|---|")
    for path in paths:
        photo = images.read_rgb(path)
        looks = look(sides, photo, turns)
        seen = [_median_of(one) for one in looks]
        both = zip(looks[0], looks[-1], strict=True)
        times = [last.seconds / first.seconds for first, last in both]
        columns = (
            f"{path.name}, {photo.shape[1]} x {photo.shape[0]}",
            " -> ".join(str(len(one.landmarks)) for one in seen),
            " -> ".join(f"{one.seconds:.3f}" for one in seen),
            " -> ".join(f"{one.megapixels:.2f}" for one in seen),
            f"{np.median(times):.2f}",
        )
        print(f"| {' | '.join(columns)} |", flush=True)


def print_tables(sides: list[Side], paths: list[Path], options: argparse.Namespace) -> None:
    """Print the tables that are asked for; a cell holds what each side has."""
    for name, rows in tables():
        if options.only not in name:
            continue
        print(f"\n| {name} | found | error | others | seconds | megapixels |")
        print("|---|---|---|---|---|---|")
        for label, make in rows.items():
            if options.rows and label not in options.rows:
                continue
            cells = measure(sides, make, paths, options.turns)
            columns = zip(*(dataclasses.astuple(row) for row in cells), strict=True)
            print(f"| {label} | {' | '.join(map(' -> '.join, columns))} |", flush=True)


def _pictures(paths: list[Path]) -> list[Path]:
    """Return the files, and those of the folders."""
    files = [
        file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])
    ]
    return [file for file in files if file.suffix.lower() in images.SUFFIXES]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, nargs="?", help="folder of aligned 512 px faces")
    parser.add_argument("--every", type=int, default=20, help="take each n-th face, default: 20")
    parser.add_argument("--first", type=int, default=0, help="begin with this one, default: 0")
    parser.add_argument("--only", default="", help="tables whose name holds this")
    parser.add_argument("--rows", nargs="*", help="rows of these names only")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="tell what they cost")
    parser.add_argument("--before", type=Path, help="an older checkout to compare with")
    parser.add_argument("--turns", type=int, default=3, help="looks at each photo, default: 3")
    parser.add_argument("--detector", default="centerface", help="default: centerface")
    options = parser.parse_args()
    if not options.faces and not options.photos:
        parser.error("give a folder of aligned faces, or --photos")
    checkouts = [options.before, ROOT] if options.before else [ROOT]
    sides = [Side(checkout, options.detector) for checkout in checkouts]
    if options.faces:
        faces = _pictures([options.faces])[options.first :: options.every]
        print_tables(sides, faces, options)
    if options.photos:
        print_costs(sides, _pictures(options.photos), options.turns)
    for side in sides:
        side.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
