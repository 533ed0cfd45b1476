"""Make aligned faces with eye and mouth boxes out of any photos, to train on.

    python -m scripts.prepare_faces photos faces/train

Photos that are aligned faces already keep their pixels. Started again, with the same photos or with
other ones, it adds what is new.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from gfpgan_core.config import DetectorName
from gfpgan_core.detect import load_detector
from gfpgan_core.errors import InputError, WeightsError
from train.faces import open_faces
from train.prepare import MIN_EYE_DISTANCE_PX, Prepared, prepare_faces


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, 1 without a usable face or after a message, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder, searched with its subfolders")
    parser.add_argument("destination", type=Path, help="folder to make")
    parser.add_argument("--face-size", type=int, default=512, metavar="PX")
    parser.add_argument(
        "--min-eye-distance",
        type=float,
        default=MIN_EYE_DISTANCE_PX,
        metavar="PX",
        help=f"in the photo; smaller faces hold too little (default {MIN_EYE_DISTANCE_PX:g})",
    )
    parser.add_argument(
        "--detector", choices=get_args(DetectorName), default="auto", help="default: auto"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        result = _prepare(options)
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on with the photos that are left", file=sys.stderr)
        return 130
    print(result.summary())
    return 0 if result.faces else 1


def _prepare(options: argparse.Namespace) -> Prepared:
    photos, destination = options.photos.resolve(), options.destination.resolve()
    if photos == destination:
        raise InputError(f"{photos} can't be its own destination: name another folder")
    source = open_faces(photos, without=destination)
    if source.kind != "folder":
        raise InputError(f"{photos} is no folder: unpack it first")
    return prepare_faces(
        tqdm([photos / name for name in source.names], unit="photo", disable=None),
        destination,
        load_detector(options.detector),
        face_size_px=options.face_size,
        min_eye_distance_px=options.min_eye_distance,
    )


if __name__ == "__main__":
    sys.exit(main())
