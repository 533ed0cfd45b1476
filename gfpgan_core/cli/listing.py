"""`restore --list`: the faces in photos, with nothing restored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gfpgan_core.cli.described import described_face, face_line
from gfpgan_core.cli.inputs import Found
from gfpgan_core.cli.report import Report
from gfpgan_core.config import RestoreOptions
from gfpgan_core.errors import error_text

if TYPE_CHECKING:
    from gfpgan_core.damage import Damage
    from gfpgan_core.detectors import Face

    Finder = Callable[[Path, RestoreOptions], list[tuple[Face, Damage]]]


def list_faces(
    found: Found, options: RestoreOptions, finder: Finder, report: Report, *, as_json: bool
) -> int:
    """Say which faces there are in each photo; return 1 if any can't be read or there is none."""
    tally = report.tally
    tally.photos = len(found.photos) + len(found.problems)
    tally.passed_over = +found.passed_over
    for name, problem in found.problems:
        report.failed(name, problem)
    for source in found.photos:
        try:
            faces = finder(source.path, options)
        except Exception as error:  # of one photo: the others are listed
            report.failed(source.name, error_text(error))
            continue
        if as_json:
            described = [described_face(*face) for face in faces]
            report.line(json.dumps({"input": source.name, "faces": described}))
        else:
            report.line(f"{source.name}: {len(faces)} face{'s' * (len(faces) != 1)}")
            for face in faces:
                report.line(f"  {face_line(*face)}")
    if not found.photos and not tally.failed:
        report.note("there is no photo to look for faces in")
        return 1
    return int(tally.failed > 0)


def load_finder(detector: str, device: str | None) -> Finder:
    """Set the process up and load the detector alone.

    Raises:
        InputError: unknown device or detector.
        WeightsError: its weights can't be had.
    """
    from gfpgan_core.runtime import checked_device, configure_process

    configure_process()
    from gfpgan_core.align import align
    from gfpgan_core.choose import find
    from gfpgan_core.damage import damage_of
    from gfpgan_core.detect import load_detector
    from gfpgan_core.geometry import TEMPLATE_SIZE_PX
    from gfpgan_core.images.incoming import as_photo, prepared

    loaded = load_detector(detector, checked_device(device))

    def finder(path: Path, options: RestoreOptions) -> list[tuple[Face, Damage]]:
        rgb = prepared(as_photo(path, options.page), options).rgb
        faces = find(loaded, rgb, options).faces
        return [(face, damage_of(align(rgb, face, TEMPLATE_SIZE_PX).pixels)) for face in faces]

    return finder
