"""Draw what a configuration does to faces: rows of ground truth and degraded samples.

    python -m scripts.preview_degradations faces/train sheet.png \
        --config experiments/compact_256/stage_a.yaml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from gfpgan_core import geometry, images
from gfpgan_core.errors import InputError
from gfpgan_core.formats import format_of
from train.config_file import load_config
from train.dataset import load_face
from train.degradations import degrade
from train.faces import open_faces


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="folder, zip, tar or LMDB of aligned faces")
    parser.add_argument("sheet", type=Path, help="PNG, JPEG or WebP to write")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rows", type=int, default=6, help="faces")
    parser.add_argument("--columns", type=int, default=6, help="samples of each")
    parser.add_argument("--tile", type=int, default=192, metavar="PX")
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config, options.set)
        faces = open_faces(options.faces)
        rows = []
        for index in range(min(options.rows, len(faces))):
            gt = load_face(faces, faces.names[index], config.generator.face_size_px)
            shown = [gt]
            for sample in range(options.columns):
                rng = np.random.default_rng((config.seed, sample, index))
                shown.append(degrade(gt, config.degradation, rng)[0])
            tile_wh = (options.tile, options.tile)
            rows.append(np.hstack([geometry.resize(image, tile_wh) for image in shown]))
        sheet = np.asarray(np.vstack(rows), np.uint8)
        images.write(options.sheet, images.encode(sheet, None, format_of(options.sheet)))
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    print(options.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
