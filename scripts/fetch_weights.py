"""Downloads weight files ahead of time, verified, into `GFPGAN_WEIGHTS_DIR` or the user's cache.

python -m scripts.fetch_weights                # what the hosted API's defaults use
python -m scripts.fetch_weights v1.3 v1.4      # restoration networks by version
python -m scripts.fetch_weights all
"""

from __future__ import annotations

import argparse
import sys

from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.download import locate
from gfpgan_core.weights.releases import (
    BACKGROUNDS,
    DETECTORS,
    PARSING,
    PARSING_FAST,
    RELEASES,
    WeightFile,
    all_files,
)

# What `auto` picks up beside the networks when it is there.
_COMPANIONS = {
    "retinaface-resnet50": DETECTORS["retinaface-resnet50"],
    "parsing-fast": PARSING_FAST,
    "realesrgan-x4v3": BACKGROUNDS["realesrgan-x4v3"],
}


def main(arguments: list[str] | None = None) -> int:
    named: dict[str, WeightFile] = {
        **{version: release.file for version, release in RELEASES.items() if release.file},
        **BACKGROUNDS,
        **DETECTORS,
        "parsing": PARSING,
        "parsing-fast": PARSING_FAST,
    }
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"all, or any of: {', '.join(named)} (default: v1.4 and its companions)",
    )
    names = parser.parse_args(arguments).names or ["v1.4", *_COMPANIONS]
    unknown = [name for name in names if name not in named and name != "all"]
    if unknown:
        parser.error(f"unknown name {unknown[0]!r}; allowed: all, {', '.join(named)}")
    files = all_files() if "all" in names else [named[name] for name in names]
    failed = False
    for file in files:
        try:
            print(f"{file.name}: {locate(file)} ({file.licence})")
        except WeightsError as error:
            print(error, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
