"""Split folders of aligned faces by person into three sets: train, choose, report.

Weights learn from `train`, the best checkpoint is found on `choose`, and `report` is looked at once
for the figures that are published. People don't cross from one set to another.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gfpgan_core import images
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_LANDMARKS, TEMPLATE_SIZE_PX, apply, scaling
from gfpgan_core.images import ImageU8
from train.components import FILE_NAME, boxes_from_landmarks, save_boxes
from train.dataset import resize_face

SETS = ("train", "choose", "report")

_ALIGNED_SHIFT_PX = 25.0


@dataclass(frozen=True)
class FaceFile:
    """One aligned face of a collection."""

    path: Path
    person: str
    source: str
    replaces: str = ""
    """`folder/file` of a worse copy of the same photo, which is left out."""

    @property
    def name(self) -> str:
        """Return the file's name."""
        return f"{self.path.parent.name}/{self.path.name}"


def read_collection(folder: Path) -> list[FaceFile]:
    """Read the faces of a folder, by the table beside it: `folder.csv` with `file` and `person`.

    Further columns: `source`, `same_as`. Without a table every file is a person of its own, and
    the source is what follows the name's last underscore.

    Raises:
        InputError: no such folder, no faces, or a table without those columns.
    """
    table = folder.with_suffix(".csv")
    if not table.is_file():
        found = [
            FaceFile(path, f"{folder.name}/{path.stem}", path.stem.rpartition("_")[2])
            for path in sorted(folder.glob("*"))
            if path.suffix.lower() in images.SUFFIXES
        ]
        if not found:
            raise InputError(f"{folder} holds no images, and {table} is not there")
        return found
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    missing = {"file", "person"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{table} lacks the columns {', '.join(sorted(missing))}")
    return [
        FaceFile(
            folder / row["file"],
            row["person"],
            row.get("source") or folder.name,
            row.get("same_as") or "",
        )
        for row in rows
    ]


def without_replaced(faces: Sequence[FaceFile]) -> list[FaceFile]:
    """Return the faces but for those that another one replaces."""
    replaced = {face.replaces for face in faces if face.replaces}
    return [face for face in faces if face.name not in replaced]


def split_by_person(
    faces: Sequence[FaceFile], share: float, seed: int = 0
) -> dict[str, list[FaceFile]]:
    """Return the sets by name: `share` of each source's people is in `choose`, as much in `report`.

    Those two hold one face of each person, the first. A source with too few people for one is
    trained on as a whole. What a person's set is doesn't depend on the order of the faces.
    """
    people: dict[tuple[str, str], set[str]] = defaultdict(set)
    for face in faces:
        people[face.path.parent.name, face.source].add(face.person)
    held_out: dict[str, str] = {}
    for key in sorted(people):
        ordered = np.random.default_rng(seed).permutation(sorted(people[key] - set(held_out)))
        count = round(share * len(ordered))
        held_out |= dict.fromkeys(ordered[:count].tolist(), "choose")
        held_out |= dict.fromkeys(ordered[count : 2 * count].tolist(), "report")
    sets: dict[str, list[FaceFile]] = {name: [] for name in SETS}
    seen = set()
    for face in sorted(faces, key=lambda face: face.name):
        name = held_out.get(face.person, "train")
        if name == "train" or face.person not in seen:
            sets[name].append(face)
        seen.add(face.person)
    return sets


def write_sets(
    sets: dict[str, list[FaceFile]], destination: Path, face_size_px: int
) -> dict[str, int]:
    """Write each set's faces of at least this size; return how many.

    A larger face is reduced by area averaging and saved as PNG; one of that size keeps its bytes.
    """
    counts = dict.fromkeys(sets, 0)
    for name, faces in sets.items():
        folder = destination / name
        folder.mkdir(parents=True, exist_ok=True)
        for face in faces:
            data = face.path.read_bytes()
            pixels = images.decode(data, face.path.name).rgb
            if pixels.shape[0] < face_size_px:
                continue
            stem = f"{face.path.parent.name}-{face.path.stem}"
            if pixels.shape[0] == face_size_px:
                (folder / (stem + face.path.suffix)).write_bytes(data)
            else:
                data = images.encode(resize_face(pixels, face_size_px), None, "png")
                images.write(folder / f"{stem}.png", data)
            counts[name] += 1
    return counts


def write_boxes(folder: Path, detector: Callable[[ImageU8], list[Face]]) -> int:
    """Write the boxes of eyes and mouth of the folder's faces beside them; return of how many.

    A face whose landmarks are more than 25 px (of 512) from the template's on average isn't the
    aligned one: it gets no boxes, and training takes the template's.
    """
    boxes = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in images.SUFFIXES:
            continue
        image = images.decode(path.read_bytes(), path.name).rgb
        to_template = scaling(image.shape[1::-1], (TEMPLATE_SIZE_PX,) * 2)
        found = [apply(to_template, face.landmarks) for face in detector(image)]
        shifts = [np.linalg.norm(points - TEMPLATE_LANDMARKS, axis=1).mean() for points in found]
        if shifts and min(shifts) < _ALIGNED_SHIFT_PX:
            boxes[path.name] = boxes_from_landmarks(found[int(np.argmin(shifts))])
    save_boxes(folder / FILE_NAME, boxes)
    return len(boxes)
