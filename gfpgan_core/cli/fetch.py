"""`gfpgan fetch`: download weight files to `GFPGAN_WEIGHTS_DIR` or the user's cache folder."""

from __future__ import annotations

from collections.abc import Iterable

from gfpgan_core.cli.report import Report
from gfpgan_core.errors import WeightsError, error_text
from gfpgan_core.weights.releases import (
    BACKGROUNDS,
    DETECTORS,
    PARSING,
    RELEASES,
    WeightFile,
    all_files,
)

_FILES: dict[str, WeightFile] = {
    **{version: release.file for version, release in RELEASES.items() if release.file},
    **BACKGROUNDS,
    **DETECTORS,
    **PARSING,
}

# What predict.py's defaults use: v1.4, and the detector and parser that `auto` prefers.
_DEFAULT = ("v1.4", "retinaface-resnet50", "parsing-fast", "realesrgan-x4v3")

FETCHABLE = tuple(_FILES)
"""The names that `fetch` takes, beside `all`."""


def fetch(names: Iterable[str]) -> int:
    """Download and verify missing files; return the exit status: 1 if any can't be downloaded."""
    from gfpgan_core.weights import download

    names = list(names) or list(_DEFAULT)
    files = all_files() if "all" in names else [_FILES[name] for name in names]
    report = Report()
    status = 0
    for file in files:
        try:
            report.line(f"{file.name}: {download.fetch(file)} ({file.license})")
        except WeightsError as error:
            report.note(error_text(error))
            status = 1
    return status
