"""Where `restore` writes: a folder, one file, or the standard output."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gfpgan_core.cli.inputs import STANDARD_STREAM, Found
from gfpgan_core.cli.results import in_the_way
from gfpgan_core.errors import InputError
from gfpgan_core.formats import FORMAT_OF_SUFFIX, SUFFIXES, WRITABLE


@dataclass(frozen=True)
class Destination:
    """Where results go: `folder`; `file` alone; or the standard output, and no file at all."""

    folder: Path
    file: Path | None
    format: str
    is_stdout: bool = False


def destination_of(options: argparse.Namespace, found: Found) -> Destination:
    """Return where results go.

    Raises:
        InputError: `--output` is a file or the standard output, and can't be.
    """
    if options.output == STANDARD_STREAM:
        return _standard_output(options, found)
    path = Path(options.output)
    suffix = path.suffix.lower()
    is_folder = options.output.endswith("/") or path.is_dir()
    if is_folder or suffix not in (*FORMAT_OF_SUFFIX, *SUFFIXES):
        return Destination(path, None, options.format)
    if suffix not in FORMAT_OF_SUFFIX:  # a file is meant, though of a format that isn't written
        raise InputError(f"--output {path}: results are {', '.join(WRITABLE)}")
    _check_one_photo(f"{path} is one file", options, found)
    file_format = FORMAT_OF_SUFFIX[suffix]
    if options.format not in ("auto", file_format):
        raise InputError(f"--output {path} and --format {options.format} don't agree")
    is_taken = not (options.overwrite or options.resume) and os.path.lexists(path)
    if is_taken or any(_is_same_file(path, photo.path) for photo in found.photos):
        raise InputError(in_the_way(path))
    return Destination(path.parent, path, file_format)


def _standard_output(options: argparse.Namespace, found: Found) -> Destination:
    _check_one_photo("- is the standard output", options, found)
    for name in ("resume", "report", "json", "save_faces"):
        if getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            why = "writes there too" if name == "json" else "needs files: name a folder"
            raise InputError(f"--output - is the standard output, and {option} {why}")
    if sys.stdout is None or sys.stdout.isatty():  # None: it is closed
        raise InputError("--output - writes the picture itself: redirect it, as in > result.png")
    return Destination(Path(), None, options.format, is_stdout=True)


def _check_one_photo(what: str, options: argparse.Namespace, found: Found) -> None:
    if len(found.photos) > 1 or any(Path(name).is_dir() for name in options.inputs):
        raise InputError(f"--output {what}, for one photo: name a folder for several")


def _is_same_file(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def write_to_stdout(data: bytes) -> None:
    """Write all of it past Python's buffer, which would fail once more at exit.

    Raises:
        InputError: the reader went away, or the disk behind it is full.
    """
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
    except OSError as error:
        raise InputError(f"the standard output can't be written: {error.strerror}") from None
