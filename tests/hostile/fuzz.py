"""`python -m hostile.fuzz pictures|archives|weights FOLDER SECONDS`: atheris, its corpus kept."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

with atheris.instrument_imports(include=["gfpgan_core", "train", "PIL", "tarfile", "zipfile"]):
    from gfpgan_core.errors import InputError, WeightsError
    from gfpgan_core.images import decode
    from gfpgan_core.weights.load import load_file
    from hostile import pictures
    from train.unpack import unpack_images


def _decode(data: bytes) -> None:
    with contextlib.suppress(InputError):
        decode(data)


def _unpack(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(InputError):
        path = Path(folder) / "archive"
        path.write_bytes(data)
        unpack_images(path, Path(folder) / "out")


def _load(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(WeightsError):
        path = Path(folder) / "weights"
        path.write_bytes(data)
        load_file(path)


def _seeds(target: str) -> Any:
    if target == "weights":
        from hostile.weights import cases

        return ((case.name, case.data) for case in cases())
    return getattr(pictures, target)()


def main() -> None:
    """Fuzz one reader; what it raises beside its own error ends the run, its input written."""
    target, folder, seconds = sys.argv[1], Path(sys.argv[2]) / sys.argv[1], sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    for number, (_, data) in enumerate(_seeds(target)):
        if len(data) < 20_000:
            (folder / f"seed-{number}").write_bytes(data)
    run = {"pictures": _decode, "archives": _unpack, "weights": _load}[target]
    limits = [f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", str(folder)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
