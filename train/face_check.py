"""Check a training's faces before its first step, and compare them with those of its last start.

Otherwise one damaged file would end the run at the random step that draws it, again and again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm import tqdm

from gfpgan_core import images
from gfpgan_core.bounds import MIN_SIDE_PX
from gfpgan_core.errors import InputError
from gfpgan_core.files import whole_file
from gfpgan_core.runtime import allowed_cores
from train.dataset import load_face, require_square
from train.faces import Faces, some_of

_logger = logging.getLogger(__name__)

RECORD = "faces.json"


@dataclass(frozen=True)
class FaceRecord:
    """What a run was trained on when it was last started."""

    decoded: bool = False
    """Whether every face was decoded, not only its header read."""
    stamps: dict[str, list[int]] = field(default_factory=dict)
    """Name to size in bytes and time of change in ns."""


def usable_faces(faces: Faces, *, skip: bool, decode: bool, known: FaceRecord | None) -> Faces:
    """Return the faces without those that can't be used; `known` ones aren't looked at again.

    Raises:
        InputError: some can't be used and `skip` is False, or none can. The text lists them all.
    """
    bad = find_bad_faces(faces, _unknown(faces, decode, known), decode=decode)
    if not bad:
        return faces
    lines = "\n".join(f"  {bad[name]}" for name in sorted(bad))
    found = f"{len(bad)} of {len(faces)} files in {faces.path} can't be used:\n{lines}\n"
    if len(bad) == len(faces):
        raise InputError(f"{found}Give aligned, square faces: scripts.prepare_faces makes them")
    if not skip:
        raise InputError(
            f"{found}Remove them, or leave them out of the training with on_bad_face: skip"
        )
    _logger.warning("%sThey are left out (on_bad_face: skip)", found)
    return replace(faces, names=tuple(name for name in faces.names if name not in bad))


def find_bad_faces(faces: Faces, names: Iterable[str], *, decode: bool) -> dict[str, str]:
    """Return the faces that can't be trained on, each with a text that names it and says why."""

    def problem(name: str) -> str | None:
        try:
            if decode:
                load_face(faces, name, MIN_SIDE_PX)
            else:
                with faces.open(name) as file:
                    require_square(faces, name, *images.size_of(file, name))
        except InputError as error:
            return str(error)
        return None

    names = list(names)
    threads = 1 if faces.kind == "tar" else allowed_cores()  # a tar has one file position
    with ThreadPoolExecutor(threads) as pool:
        try:
            found = pool.map(problem, names)
            progress = tqdm(found, "checking the faces", len(names), disable=None, leave=False)
            return {name: reason for name, reason in zip(names, progress, strict=True) if reason}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _unknown(faces: Faces, decode: bool, known: FaceRecord | None) -> list[str]:
    """Return those that changed since they were found usable, or weren't looked at so closely."""
    if known is None or (decode and not known.decoded):
        return list(faces.names)
    return [name for name in faces.names if known.stamps.get(name) != _stamp(faces, name)]


def _stamp(faces: Faces, name: str) -> list[int]:
    """Return the file's stamp, or none where it can't be read: the check says so."""
    try:
        return list(faces.stamp(name))
    except InputError:
        return []


def read_record(folder: Path) -> FaceRecord | None:
    """Return what a run folder says of its faces; None where it says nothing readable."""
    try:
        values = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return FaceRecord(bool(values["decoded"]), dict(values["faces"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_record(faces: Faces, folder: Path, *, decoded: bool) -> None:
    """Write what `read_record` reads."""
    values = {"decoded": decoded, "faces": {name: _stamp(faces, name) for name in faces.names}}
    with whole_file(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(values), encoding="utf-8")


def describe_changes(before: FaceRecord, faces: Faces) -> str:
    """Return what differs from the faces of the run's last start; empty where nothing does."""
    now = set(faces.names)
    changed = [
        name
        for name in now & set(before.stamps)
        if before.stamps[name][:1] != _stamp(faces, name)[:1]  # a copy has another time
    ]
    kinds = {
        "added": now - set(before.stamps),
        "removed": set(before.stamps) - now,
        "changed": changed,
    }
    return "; ".join(
        f"{len(names)} {kind} ({some_of(sorted(names))})" for kind, names in kinds.items() if names
    )
