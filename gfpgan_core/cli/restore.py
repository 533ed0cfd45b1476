"""`gfpgan restore`: photos in, restored photos out."""

from __future__ import annotations

import argparse
import contextlib
import errno
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfpgan_core import loading
from gfpgan_core.cli.destination import Destination, destination_of, write_to_stdout
from gfpgan_core.cli.inputs import Found, Source, find_photos, standard_input
from gfpgan_core.cli.listing import list_faces, load_finder
from gfpgan_core.cli.parser import make_parser
from gfpgan_core.cli.record import weights_recorded
from gfpgan_core.cli.report import JsonReport, Report, exit_status
from gfpgan_core.cli.report_page import ReportPage
from gfpgan_core.cli.results import (
    Results,
    check_absent,
    check_writable,
    done_before,
)
from gfpgan_core.config import RestoreOptions, parse_faces
from gfpgan_core.errors import InputError, error_text
from gfpgan_core.files import sha256_of, write_behind

if TYPE_CHECKING:
    from gfpgan_core.pipeline import FaceRestorer
    from gfpgan_core.result import Restoration

# After these errors no later photo can be written either.
_NOTHING_MORE_FITS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

# Options that don't change the pixels, or that the record holds elsewhere.
_NOT_RECORDED = (
    *("command", "inputs", "output", "resume", "overwrite", "json", "list", "report"),
    *("device", "backend", "weights"),
)


class _OutputFullError(Exception):
    """The disk is full or read-only: no more results can be written."""


def restore(options: argparse.Namespace) -> int:
    """Return the exit status: 0, 1 if any photo failed or there is none, 130 after Ctrl-C."""
    report = JsonReport() if options.json else Report()
    advice = "; the same command with --resume goes on"

    def work() -> int:
        wanted = restore_options(options)
        with standard_input(options.inputs) as piped:
            return _list_or_restore(options, wanted, find_photos(options.inputs, piped), report)

    return exit_status(work, report, advice)


def _list_or_restore(
    options: argparse.Namespace, wanted: RestoreOptions, found: Found, report: Report
) -> int:
    if options.list:
        if options.report:
            raise InputError("--report shows what was restored, and --list restores nothing")
        if options.aligned:
            raise InputError("--aligned looks for no faces, and --list does: leave one of them out")
        finder = load_finder(options.detector, options.device)
        return list_faces(found, wanted, finder, report, as_json=options.json)
    destination = destination_of(options, found)
    if destination.is_stdout:
        report.output = report.errors
    else:
        check_writable(destination.folder / "faces" if options.save_faces else destination.folder)
    status = _restore_found(options, wanted, found, destination, report)
    report.closing()
    return status


def restore_options(options: argparse.Namespace) -> RestoreOptions:
    """Return what is done with each photo, as the command line says it.

    Raises:
        InputError: a value that is not allowed.
    """
    most = options.max_eye_distance
    return RestoreOptions(
        scale=options.scale,
        blend=options.blend,
        background=options.background,
        upscale_faces=options.upscale_faces,
        faces=parse_faces(options.faces),
        boxes=tuple((box[0], box[1], box[2], box[3]) for box in options.boxes),
        aligned=options.aligned,
        min_eye_distance_px=options.min_eye_distance,
        max_eye_distance_px=math.inf if most is None else most,
        min_score=options.min_score,
        page=options.page,
        deinterlace=options.deinterlace,
    )


def _restore_found(
    options: argparse.Namespace,
    wanted: RestoreOptions,
    found: Found,
    destination: Destination,
    report: Report,
) -> int:
    recorded = _recorded(options)
    done: dict[Source, Path] = {}
    if options.resume:
        done = _done_before(found.photos, destination, recorded, options.overwrite)
    photos = [source for source in found.photos if source not in done]
    found.passed_over["done already"] = len(done)
    tally = report.tally
    tally.photos = len(photos) + len(found.problems)
    tally.passed_over = +found.passed_over  # those above zero
    results = Results((source.path for source in found.photos), overwrite=options.overwrite)
    page = _report_page(options, destination, found) if options.report else None
    saver = _Saver(options, destination, recorded, results, report, page)
    for name, problem in found.problems:
        saver.failed(name, problem)
    if page:
        for source, result in done.items():
            page.restored_before(source.path, result)
    if photos:
        _restore_all(photos, load_restorer(options), wanted, saver)
    elif not found.photos and not tally.failed and not tally.passed_over["earlier results"]:
        report.note(f"there is no photo in {', '.join(options.inputs)}")
        return 1
    saver.write_page()
    return int(tally.failed > 0 or tally.not_tried > 0)


def _report_page(options: argparse.Namespace, destination: Destination, found: Found) -> ReportPage:
    settings = [
        str(options.weights or options.version),
        f"scale {options.scale}",
        f"blend {options.blend}",
        f"background {options.background}",
        *(["faces upscaled"] if options.upscale_faces else []),
    ]
    count = len(found.photos)
    return ReportPage(destination.folder, count, page=options.page, settings=", ".join(settings))


def _recorded(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that a result depends on, as they stand in the record."""
    recorded = {name: value for name, value in vars(options).items() if name not in _NOT_RECORDED}
    return recorded | weights_recorded(options)


def _done_before(
    photos: list[Source], destination: Destination, recorded: Mapping[str, Any], overwrite: bool
) -> dict[Source, Path]:
    """Return the photos that need not be restored again, with their results.

    Raises:
        InputError: the file that the user named is another one's.
    """
    usual = vars(make_parser().parse_args(["restore", "any"]))
    unsaid = {name: value for name, value in usual.items() if name not in _NOT_RECORDED}
    done = done_before(photos, destination.folder, recorded, unsaid, destination.file)
    if destination.file and photos and not (done or overwrite):
        check_absent(destination.file)
    return done


def load_restorer(options: argparse.Namespace) -> FaceRestorer:
    """Set the process up and load the networks.

    Raises:
        InputError: unknown device, detector, mask or back end.
        WeightsError: weights can't be had or are damaged.
    """
    return loading.load_restorer(
        options.version,
        options.weights,
        options.background,
        options.device,
        detector=options.detector,
        mask=options.mask,
        backend=options.backend,
    )


def _restore_all(
    photos: list[Source], restorer: FaceRestorer, options: RestoreOptions, saver: _Saver
) -> None:
    """Restore one photo while the one before is encoded and written."""
    restored = restorer.restore_many(saver.noting(photos), options)
    try:
        with saver.report.progress(len(photos)):
            write_behind(zip(photos, restored, strict=True), lambda pair: saver.save(*pair))
    except _OutputFullError as error:
        saver.report.note(f"stopped: {error}; the same command with --resume goes on")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class _Saver:
    """Writes each photo's result or error, and reports it."""

    options: argparse.Namespace
    destination: Destination
    recorded: Mapping[str, Any]
    results: Results
    report: Report
    page: ReportPage | None
    stamps: dict[Source, tuple[int, int]] = field(default_factory=dict)
    """Of the photos as they were before they were decoded."""

    def noting(self, photos: list[Source]) -> Iterator[Path]:
        """Yield each photo's path just before it is decoded, and note the file's stamp."""
        for source in photos:
            with contextlib.suppress(OSError):  # decoding it tells why
                self.stamps[source] = _stamp(source.path)
            yield source.path

    def save(self, source: Source, result: Restoration | Exception) -> None:
        """Write the result and its faces.

        Raises:
            _OutputFullError: nothing more can be written.
        """
        try:
            if isinstance(result, Exception):
                raise result
            files = self._write(source, result)
        except Exception as error:  # of one photo: the others are restored
            self.failed(source.name, error_text(error))
            cause = error.__cause__
            if isinstance(cause, OSError) and (
                cause.errno in _NOTHING_MORE_FITS or not self._is_writable()
            ):
                raise _OutputFullError(
                    f"no more photos can be written ({cause.strerror})"
                ) from error
        else:
            self.report.restored(source.name, result, files)
            if self.page:
                self.page.restored(source.path, result, files[0])

    def _is_writable(self) -> bool:
        """Return whether the folder still takes files: it may have been replaced or taken away."""
        try:
            check_writable(self.destination.folder)
        except InputError:
            return False
        return True

    def failed(self, source: str, text: str) -> None:
        """Say of a photo that it could not be restored, and why."""
        self.report.failed(source, text)
        if self.page:
            self.page.failed(source, text)

    def write_page(self) -> None:
        """Write the page that shows the run, if it was asked for: `report.html` beside the results.

        Raises:
            InputError: it can't be written.
        """
        if self.page is None:
            return
        file = self.destination.file
        stem = f"{file.stem}_report" if file else "report"
        parts = {".html": self.page.html(self.report.tally)}
        (path,) = self.results.write(self.destination.folder, stem, parts)
        self.report.page(path)

    def _write(self, source: Source, result: Restoration) -> list[Path]:
        """Write the faces first: the result in the record says that all of its photo is done."""
        file_format = result.format_for(self.destination.format)
        data = result.encode(file_format, keep_gps=self.options.keep_gps)
        if self.destination.is_stdout:
            write_to_stdout(data)
            return [Path("standard output")]
        folder = self.destination.folder / source.subfolder
        faces = self._write_faces(folder / "faces", source.path.stem, result)
        about = {"source": source.path.name, "options": self.recorded}
        with contextlib.suppress(OSError):  # removed since
            sha256 = sha256_of(source.path)
            # Of a file that was changed meanwhile this would be the hash of another photo.
            if self.stamps.get(source) == _stamp(source.path):
                about["sha256"] = sha256
        if self.destination.file:
            self.results.write_file(self.destination.file, data, about)
            return [self.destination.file, *faces]
        parts = {f".{file_format}": data}
        return self.results.write(folder, source.path.stem, parts, about) + faces

    def _write_faces(self, folder: Path, stem: str, result: Restoration) -> list[Path]:
        """Write `<stem>_<n>.png` and the pair `<stem>_<n>_before_after.png`, n as in `--faces`."""
        if not (self.options.save_faces and result.crops):
            return []
        import numpy as np

        from gfpgan_core import images

        parts = {}
        crops = zip(result.crops, result.restored_crops, strict=True)
        for number, (before, after) in zip(result.numbers(), crops, strict=True):
            parts[f"_{number}.png"] = images.encode(after, None, "png")
            pair = np.hstack([before, after])
            parts[f"_{number}_before_after.png"] = images.encode(pair, None, "png")
        return self.results.write(folder, stem, parts)
