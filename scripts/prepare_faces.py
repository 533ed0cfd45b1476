"""Makes aligned faces with eye and mouth boxes out of any photos, to train on.

    python -m scripts.prepare_faces photos faces/train

Photos that are aligned faces already keep their pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from gfpgan_core.detect import load_detector
from gfpgan_core.errors import InputError, WeightsError
from train.faces import open_faces
from train.prepare import MIN_EYE_DISTANCE_PX, prepare_faces


def main() -> int:
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
    parser.add_argument("--detector", default="auto", help="auto, centerface or a RetinaFace")
    options = parser.parse_args()
    try:
        source = open_faces(options.photos)
        if source.kind != "folder":
            raise InputError(f"{options.photos} is no folder: unpack it first")
        photos = tqdm([options.photos / name for name in source.names], unit="photo")
        result = prepare_faces(
            photos,
            options.destination,
            load_detector(options.detector),
            face_size_px=options.face_size,
            min_eye_distance_px=options.min_eye_distance,
        )
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(result.summary())
    return 0 if result.faces else 1


if __name__ == "__main__":
    sys.exit(main())
