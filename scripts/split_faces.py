"""Folders of aligned faces to people to train on, to choose a checkpoint by, and to report on.

    python -m scripts.split_faces DESTINATION FOLDER [FOLDER ...] [--size 256] [--share 0.05]

FOLDER.csv beside a folder has the columns `file` and `person`, and may have `source` and `same_as`
(`folder/file` of a worse copy of the photo in another folder, which is left out). Faces smaller
than the size are left out. The same people are in the same set at every size. The faces to train on
get the boxes of their eyes and mouth, which component discriminators look at.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gfpgan_core.detect import load_detector
from gfpgan_core.errors import InputError, WeightsError
from train.split import (
    read_collection,
    split_by_person,
    without_replaced,
    write_boxes,
    write_sets,
)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("destination", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=512, help="side of the faces in pixels")
    parser.add_argument("--share", type=float, default=0.05, help="of the people, to each of two")
    options = parser.parse_args(arguments)
    try:
        faces = [face for folder in options.folders for face in read_collection(folder)]
        sets = split_by_person(without_replaced(faces), options.share)
        counts = write_sets(sets, options.destination, options.size)
        boxes = write_boxes(options.destination / "train", load_detector("centerface"))
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(", ".join(f"{count} faces to {name}" for name, count in counts.items()), end="; ")
    print(f"eyes and mouth found in {boxes}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
