"""`gfpgan batch`: a manifest, its shards restored here or on Ray, and how far they are."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from gfpgan_core.batch import manifest as manifests
from gfpgan_core.batch.local import run_here
from gfpgan_core.batch.on_ray import run_on_ray
from gfpgan_core.batch.packages import python_path
from gfpgan_core.batch.rows import STATUSES, Row
from gfpgan_core.batch.settings import Settings
from gfpgan_core.batch.status import SETTINGS, draw, status_of
from gfpgan_core.batch.worker import Job
from gfpgan_core.cli.inputs import find_photos
from gfpgan_core.cli.report import Report, exit_status
from gfpgan_core.cli.restore import restore_options
from gfpgan_core.errors import InputError
from gfpgan_core.files import whole_file
from gfpgan_core.runtime import allowed_cores

_WATCH_EVERY_S = 5.0


def batch(options: argparse.Namespace) -> int:
    """Return the exit status: 0, 1 if the command failed, 130 after Ctrl-C.

    Photos that fail or are poison don't make the command fail: each has its row.
    """
    report = Report()
    commands = {"manifest": _manifest, "run": _run, "status": _status}
    work = commands[options.batch_command]
    return exit_status(
        lambda: work(options, report), report, "; the same command goes on from here"
    )


def _manifest(options: argparse.Namespace, report: Report) -> int:
    passed_over: Counter[str] = Counter()
    problems: list[tuple[str, str]] = []
    found = _found(options.sources, passed_over, problems)
    output = Path(options.output)
    if output.exists() and not options.overwrite:
        raise InputError(f"{output} exists: choose another name, or --overwrite")
    rows, twice = manifests.make_manifest(found, output, options.shards)
    passed_over.update(twice)
    for name, problem in problems:
        report.note(f"{name}: left out: {problem}")
    reasons = "".join(f", {number} {reason}" for reason, number in passed_over.most_common())
    report.line(f"{output}: {rows} photos in {options.shards} shards{reasons}")
    return 0


def _found(
    sources: list[str], passed_over: Counter[str], problems: list[tuple[str, str]]
) -> Iterator[tuple[str, int, str]]:
    """Yield uri, bytes and etag of every photo; fills in what is left out."""
    for source in sources:
        if re.match(r"[a-z][a-z0-9+.-]*://", source):
            yield from manifests.in_bucket(source)
        elif Path(source).suffix in (".txt", ".parquet") and Path(source).is_file():
            yield from manifests.listed(Path(source))
        else:
            found = find_photos([source])
            passed_over.update(+found.passed_over)
            problems += found.problems
            for photo in found.photos:
                uri = str(photo.path.absolute())
                try:
                    uri.encode()
                    yield (uri, *manifests.local_etag(uri))
                except UnicodeEncodeError:
                    problems.append((uri, "its name is not UTF-8"))
                except OSError as error:
                    problems.append((uri, f"can't be read: {error.strerror}"))


def _run(options: argparse.Namespace, report: Report) -> int:
    settings = _settings(options)
    manifest = Path(options.manifest).absolute()
    shards = _own_shards(options.shard, manifests.shards_of(manifest))
    run = Path(options.output).absolute() / settings.key()
    _write_settings(settings, manifest, run)
    report.line(f"{len(shards)} shards into {run}")
    workers = options.workers or worker_count(settings)
    counts: Counter[str] = Counter()

    def on_shard(shard: int, photos: int) -> None:
        counts["photos"] += photos
        report.line(f"shard {shard}: {photos} photos")

    def on_row(row: Row) -> None:
        counts[row.status] += 1
        report.tally.restored += row.status == "restored"
        report.tally.failed += row.status != "restored"
        if row.status != "restored":
            report.note(f"{row.uri}: {row.status.upper()}: {row.error}")

    job = Job(settings, manifest, run, options.retry_failed)
    if options.ray:
        run_on_ray(
            job,
            shards,
            workers,
            address=options.address,
            gpus_per_worker=options.gpus_per_worker,
            on_shard=on_shard,
        )
    else:
        run_here(job, shards, workers, on_row=on_row, on_shard=on_shard)
    kinds = "".join(f", {counts[name]} {name}" for name in STATUSES if counts[name])
    report.line(f"{counts['photos']} photos done{kinds}")
    return 0


def worker_count(settings: Settings) -> int:
    """Return how many workers fill this machine: one on a GPU, else its cores."""
    if (settings.device or _best_device()) != "cpu":
        return 1
    return max(1, allowed_cores() // settings.threads)


def _best_device() -> str:
    """Return what a process of its own says, which imports torch: that takes 0.7 GiB for good."""
    code = "from gfpgan_core.runtime import best_device; print(best_device())"
    said = subprocess.run(  # noqa: S603 - this Python, and the code above
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "cpu"  # a worker says what is wrong with torch


def _settings(options: argparse.Namespace) -> Settings:
    return Settings(
        version=options.version,
        weights=str(options.weights.absolute()) if options.weights else "",
        detector=options.detector,
        mask=options.mask,
        device=options.device,
        threads=options.threads,
        backend=options.backend,
        format=options.format,
        keep_gps=options.keep_gps,
        options=restore_options(options),
    )


def _own_shards(text: str, shards: int) -> list[int]:
    """Return the shards that `i/n` means: every n-th, from i on.

    Raises:
        InputError: it is no such share.
    """
    share = re.fullmatch(r"(\d+)/(\d+)", text)
    index, count = (int(share[1]), int(share[2])) if share else (0, 0)
    if not (count and index < count):
        raise InputError(f"--shard is {text}; allowed: i/n with i from 0 to n - 1, such as 0/8")
    return list(range(index, shards, count))


def _write_settings(settings: Settings, manifest: Path, run: Path) -> None:
    """Say in the run's folder what it restores with; its name is a hash.

    Raises:
        InputError: the folder can't be written.
    """
    described = settings.described()
    options = described["options"]
    if math.isinf(options["max_eye_distance_px"]):
        options["max_eye_distance_px"] = None
    text = json.dumps({"manifest": str(manifest), "settings": described}, indent=1)
    try:
        with whole_file(run / SETTINGS) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{run} can't be written: {error.strerror or error}") from error


def _status(options: argparse.Namespace, report: Report) -> int:
    for run in _runs_in(Path(options.output)):
        status = status_of(run)
        if options.plot:
            draw(status, Path(options.plot))
        while True:
            if options.prometheus:
                sys.stdout.write(status.prometheus())
            else:
                for line in [str(run), *status.lines()]:
                    report.line(line)
            if not options.watch or status.done == status.total:
                break
            time.sleep(_WATCH_EVERY_S)
            status = status_of(run)
    return 0


def _runs_in(output: Path) -> list[Path]:
    """Return the folders of runs in an output folder, or the folder itself where it is one.

    Raises:
        InputError: there is none.
    """
    if (output / SETTINGS).is_file():
        return [output]
    runs = sorted(path.parent for path in output.glob(f"*/{SETTINGS}"))
    if not runs:
        raise InputError(f"{output} holds no results of `gfpgan batch run`")
    return runs
