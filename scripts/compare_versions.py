"""Draw one photo's largest face as each version restores it, side by side.

    python -m scripts.compare_versions photo.jpg comparison.png

Every version whose weights are here or can be downloaded (2.0 GB in all); the others are named and
left out. `--version` takes some of them, `--weights` adds files of one's own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from gfpgan_core import FaceRestorer, RestoreOptions, images
from gfpgan_core.errors import CropFailedError, InputError, WeightsError
from gfpgan_core.formats import format_of
from gfpgan_core.images import ImageU8, Photo
from gfpgan_core.weights.releases import RELEASES

_LABEL_PX = 24
_COLUMNS = 4


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message if nothing could be compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("picture", type=Path, help="PNG, JPEG or WebP to write")
    parser.add_argument("--version", choices=[*RELEASES], action="append", help="default: all")
    parser.add_argument("--weights", type=Path, action="append", default=[], metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        file_format = format_of(options.picture)
        tiles = compare(images.read(options.photo), _restorers(options.version, options.weights))
        images.write(options.picture, images.encode(sheet(tiles), None, file_format))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(options.picture)
    return 0


def _restorers(
    versions: list[str] | None, files: list[Path]
) -> dict[str, Callable[[], FaceRestorer]]:
    """Return what loads each restorer, by its label: one is in memory at a time."""
    named = versions or ([] if files else [*RELEASES])
    loaders: dict[str, Callable[[], FaceRestorer]] = {
        version: partial(FaceRestorer.from_release, version) for version in named
    }
    return loaders | {file.name: partial(FaceRestorer.from_file, file) for file in files}


def compare(photo: Photo, restorers: dict[str, Callable[[], FaceRestorer]]) -> dict[str, ImageU8]:
    """Return the largest face's crop, `before` and by each restorer: (size, size, 3) RGB.

    Raises:
        InputError: no face was found, or there are no weights at all.
    """
    tiles: dict[str, ImageU8] = {}
    for name, load in restorers.items():
        started = time.monotonic()
        try:
            result = load().restore(photo, RestoreOptions(faces="largest"))
        except (WeightsError, CropFailedError) as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            continue
        if not result.crops:
            raise InputError("the photo shows no face that can be restored: choose another photo")
        tiles.setdefault("before", result.crops[0])
        tiles[name] = result.restored_crops[0]
        print(f"{name}: {time.monotonic() - started:.1f} s with loading", flush=True)
    if not tiles:
        raise InputError("no version's weights are here: python -m gfpgan_core fetch, or --weights")
    return tiles


def sheet(tiles: dict[str, ImageU8]) -> NDArray[np.uint8]:
    """Return the crops in rows of four, each under its name."""
    side_px = max(tile.shape[0] for tile in tiles.values())
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    canvas = Image.new("RGB", (columns * side_px, rows * (side_px + _LABEL_PX)), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (name, tile) in enumerate(tiles.items()):
        row, column = divmod(number, columns)
        x, y = column * side_px, row * (side_px + _LABEL_PX)
        draw.text((x + 8, y + 4), name, fill="black", font_size=14)
        resized = Image.fromarray(tile).resize((side_px, side_px), Image.Resampling.LANCZOS)
        canvas.paste(resized, (x, y + _LABEL_PX))
    return np.asarray(canvas)


if __name__ == "__main__":
    sys.exit(main())
