"""Measure how a photo's seconds and memory grow with its faces, its megapixels and the threads.

    python -m scripts.benchmark_growth [--json FILE]

Photos show the sample portrait at places of a grid; `compact` restores each twice, as the command
line does, from reading the file to writing the result, in a process of its own. Seconds are those
of the second time; memory is the peak. The second table has for each series the line
that fits best (least squares), and the exponent between its last two cases: 0 where nothing grows,
1 where twice as much takes twice as much. Memory's is of what comes on top of the loaded models.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.process_memory import process_memory_mib

if TYPE_CHECKING:
    from gfpgan_core.images import ImageU8

_SAMPLE = Path(__file__).parent.parent / "assets" / "sample.jpg"
_ONE_MEGAPIXEL_WH = 1152, 864
_LINEAR = 1.15  # the largest exponent that still counts as linear
_RUNS = 2


@dataclass(frozen=True)
class Case:
    """A photo, and what it is restored with."""

    x: float  # its place in the series
    size_wh: tuple[int, int] = (2560, 1600)
    grid: tuple[int, int] = (10, 5)  # columns, rows; the first `faces` places are taken
    faces: int = 10
    scale: float = 1
    threads: int = 0  # 0: as many as there are cores


@dataclass(frozen=True)
class Measured:
    """What a case took."""

    found: int  # faces that were restored
    seconds: float  # decoding and encoding included
    peak_mib: float
    loaded_mib: float  # before the photo was read
    parts_s: dict[str, float]  # detection, restoration, background, blending


@dataclass(frozen=True)
class Growth:
    """How something grows."""

    constant: float
    slope: float  # of the line that fits best
    exponent: float  # between the last two points, of y ~ x ** exponent

    @property
    def is_linear(self) -> bool:
        """Return whether it grows linearly at most, apart from noise."""
        return self.exponent <= _LINEAR


def growth(x: Sequence[float], y: Sequence[float], base: float = 0) -> Growth:
    """Fit how y grows with x, in rising order; the exponent is that of y above `base`."""
    import numpy as np

    slope, constant = np.polyfit(x, y, 1)
    exponent = math.log((y[-1] - base) / (y[-2] - base)) / math.log(x[-1] / x[-2])
    return Growth(float(constant), float(slope), exponent)


def series() -> dict[str, list[Case]]:
    """Return the cases of each series by its name; the last one is a single bar."""
    cores = len(os.sched_getaffinity(0))
    threads = sorted({*(2**n for n in range(cores.bit_length())), cores})
    return {
        "faces": [Case(faces, faces=faces) for faces in (1, 2, 5, 10, 20, 50)],
        "megapixels": [Case(mp, _size_wh(mp), (2, 2), 1) for mp in (1, 4, 16, 64)],
        "megapixels, scale 2": [Case(mp, _size_wh(mp), (2, 2), 1, scale=2) for mp in (1, 4, 16)],
        "threads": [Case(count, threads=count) for count in threads],
        "12 megapixels, 4 faces": [Case(12, (4000, 3000), (2, 2), 4, scale=2)],
    }


def _size_wh(megapixels: int) -> tuple[int, int]:
    width, height = _ONE_MEGAPIXEL_WH
    return round(width * math.sqrt(megapixels)), round(height * math.sqrt(megapixels))


def photo(case: Case) -> ImageU8:
    """Return the case's photo, (H, W, 3): portraits on faint noise, which is no face."""
    import numpy as np

    from gfpgan_core import geometry, images

    (width, height), (columns, rows) = case.size_wh, case.grid
    grain = np.random.default_rng(0).integers(90, 130, (height // 4, width // 4, 3), np.uint8)
    canvas = np.asarray(geometry.resize(grain, case.size_wh), np.uint8)
    cell_wh = width // columns, height // rows
    side = min(cell_wh)
    portrait = geometry.resize(images.read_rgb(_SAMPLE), (side, side))
    for place in range(case.faces):
        x, y = place % columns * cell_wh[0], place // columns * cell_wh[1]
        canvas[y : y + side, x : x + side] = portrait
    return canvas


def measure(case: Case) -> Measured:
    """Measure a case in a process of its own."""
    from gfpgan_core import images

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        images.write(path, images.encode(photo(case), None, "jpg"))
        command = [sys.executable, "-m", "scripts.benchmark_growth", "--case", str(path)]
        command += [str(case.scale), str(case.threads)]
        result = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(**json.loads(result.stdout.splitlines()[-1]))


def _restore(path: Path, scale: str, threads: int) -> Measured:
    """Restore a photo several times, as the command line does."""
    if threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from gfpgan_core.cli.parser import make_parser
    from gfpgan_core.cli.restore import load_restorer, restore_options

    parts = ["--version", "compact", "--detector", "centerface", "--mask", "template"]
    options = make_parser().parse_args(["restore", str(path), "--scale", scale, *parts])
    restorer = load_restorer(options)
    loaded_mib = process_memory_mib()
    for _ in range(_RUNS):
        started = time.perf_counter()
        (result,) = restorer.restore_many([path], restore_options(options))
        if isinstance(result, Exception):
            raise result
        result.save(path.with_name("restored.jpg"))
        seconds, parts_s, found = time.perf_counter() - started, result.seconds, len(result.faces)
        del result
    return Measured(found, seconds, process_memory_mib(what="VmHWM"), loaded_mib, parts_s)


_HEADER = (
    "| series | x | faces found | seconds | of them detection | restoration | peak MiB |"
    " above the models |\n|---|---|---|---|---|---|---|---|"
)


def row(name: str, case: Case, measured: Measured) -> str:
    """Return the case's row of the first table."""
    found = f"{measured.found}" + f" of {case.faces}" * (measured.found != case.faces)
    parts = (measured.parts_s[part] for part in ("detection", "restoration"))
    detection, restoration = (f"{part:.2f}" for part in parts)
    above = measured.peak_mib - measured.loaded_mib
    cells = [name, f"{case.x:g}", found, f"{measured.seconds:.2f}", detection, restoration]
    return f"| {' | '.join([*cells, f'{measured.peak_mib:.0f}', f'{above:.0f}'])} |"


def fits(measured: dict[str, list[tuple[Case, Measured]]]) -> list[str]:
    """Return the second table, a line a row: the growth of each series of several cases."""
    lines = ["| series | seconds | exponent | MiB | exponent | |", "|---|---|---|---|---|---|"]
    for name, done in measured.items():
        if len(done) < 2:
            continue
        x = [case.x for case, _ in done]
        seconds = growth(x, [each.seconds for _, each in done])
        mib = growth(x, [each.peak_mib for _, each in done], done[0][1].loaded_mib)
        verdict = "" if seconds.is_linear and mib.is_linear else "worse than linear"
        lines.append(
            f"| {name} | {seconds.constant:.2f} {seconds.slope:+.3f} x | {seconds.exponent:.2f} |"
            f" {mib.constant:.0f} {mib.slope:+.1f} x | {mib.exponent:.2f} | {verdict} |"
        )
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Print both tables; return the exit status: 0, or 1 if anything grows worse than linearly."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="series whose name starts so")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)  # photo, scale, threads
    options = parser.parse_args(arguments)
    if options.case:
        path, scale, threads = options.case
        print(json.dumps(asdict(_restore(Path(path), scale, int(threads)))))
        return 0
    measured: dict[str, list[tuple[Case, Measured]]] = {}
    print(_HEADER, flush=True)
    for name, cases in series().items():
        for case in cases if name.startswith(options.only) else ():
            measured.setdefault(name, []).append((case, measure(case)))
            print(row(name, *measured[name][-1]), flush=True)
    table = fits(measured)
    print("", *table, sep="\n")
    if options.json:
        all_done = [(name, pair) for name, done in measured.items() for pair in done]
        rows = [{"series": name} | asdict(case) | asdict(each) for name, (case, each) in all_done]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any("worse than linear" in line for line in table))


if __name__ == "__main__":
    sys.exit(main())
