"""Restore one photo from Python, and print what was found in it.

python -m examples.restore_photo photo.jpg restored.png
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gfpgan_core import FaceRestorer, RestoreOptions
from gfpgan_core.errors import CropFailedError, InputError, WeightsError


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 after a message if the photo can't be restored."""
    parser = argparse.ArgumentParser(prog="python -m examples.restore_photo", description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("result", type=Path, help="a file, such as restored.png")
    parser.add_argument("--version", default="compact")
    options = parser.parse_args(arguments)
    try:
        restorer = FaceRestorer.from_release(options.version)
        restoration = restorer.restore(options.photo, RestoreOptions(scale=2, blend=0.8))
        restoration.save(options.result)
    except (InputError, WeightsError, CropFailedError) as error:
        print(error, file=sys.stderr)
        return 1
    for face in restoration.faces:
        left, top, right, bottom = (round(float(edge)) for edge in face.box_xyxy)
        print(f"face at ({left}, {top}) to ({right}, {bottom}), score {face.score:.2f}")
    print(f"{len(restoration.faces)} faces, {sum(restoration.seconds.values()):.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
