"""Upstream's gfpgan 1.3.8 and this package in one run, alternating: time, memory, difference.

    python -m scripts.benchmark --output docs/benchmark.json --chart docs/benchmark.png

Each side of a row is a process of its own, ours with the memory settings of the command line; they
run in turns. Upstream always parses faces for its masks; ours does so where a row names a parser,
and uses the template otherwise. Rows in the output file are kept, and measured anew if asked for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gfpgan_core.errors import InputError
from gfpgan_core.runtime import keep_freed_memory
from scripts.benchmark_sides import SIZES_MP, side, write_weights
from scripts.process_memory import process_memory_mib

PHOTOS = [(faces, mp) for mp in SIZES_MP for faces in (1, 4, 12)]

# What our pictures are compared with, where they are meant to be equal. Upstream's tiles of the
# background have seams: there it is the same network over the whole image.
_REFERENCE = {"network": "upstream", "background": "untiled"}
_ANSWER = "benchmark: "


class _Side:
    """One side of a row in a process of its own, as its user has it: it runs when told to."""

    def __init__(self, row: str, who: str, folder: Path) -> None:
        command = [sys.executable, "-m", "scripts.benchmark", "--side", row, who, str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        refusal = self._answer()  # its first, warm run is over
        if refusal:
            raise InputError(refusal)

    def seconds(self) -> float:
        assert self.process.stdin
        print("go", file=self.process.stdin, flush=True)
        return float(self._answer())

    def end(self) -> dict[str, Any]:
        """Return its memory at the peak and with the models loaded, and its last parts' seconds."""
        assert self.process.stdin
        self.process.stdin.close()
        last: dict[str, Any] = self._answer()
        return last

    def _answer(self) -> Any:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(_ANSWER):
                return json.loads(line.removeprefix(_ANSWER))
        raise RuntimeError(f"the other process ended with status {self.process.wait()}")


def _serve(row: str, who: str, folder: Path) -> None:
    """Do what a `_Side` asks for: its other end."""
    if who != "upstream":
        keep_freed_memory()  # as the command line and the server do
    try:
        action = side(row, who, folder)
    except InputError as error:
        print(f"{_ANSWER}{json.dumps(str(error))}", flush=True)
        return
    loaded_mib = int(process_memory_mib())
    picture = action.run()
    if row.split()[0] in _REFERENCE:
        np.save(folder / f"{who}.npy", picture)
    del picture
    print(f'{_ANSWER}""', flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        action.run()
        print(f"{_ANSWER}{time.perf_counter() - started}", flush=True)
    parts = {name: round(seconds, 3) for name, seconds in action.parts.items()}
    last = {
        "peak_mib": int(process_memory_mib(what="VmHWM")),
        "loaded_mib": loaded_mib,
        "parts_s": parts,
    }
    print(f"{_ANSWER}{json.dumps(last)}", flush=True)


def measure(row: str, backend: str, repeats: int, folder: Path) -> dict[str, Any]:
    """Return the times of both sides, in turns after a warm call each, and their peak memory.

    Raises:
        InputError: our back end is not for this processor.
    """
    if backend.startswith("openvino"):  # its model is converted once for all processes
        _Side(row, backend, folder).end()
    sides = {"upstream": _Side(row, "upstream", folder), "ours": _Side(row, backend, folder)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, one in sides.items():
            seconds[name].append(one.seconds())
    ends = {name: one.end() for name, one in sides.items()}
    difference = None
    reference = _REFERENCE.get(row.split()[0])
    if reference:
        if reference != "upstream":
            _Side(row, reference, folder).end()
        pictures = [np.load(folder / f"{who}.npy") for who in (reference, backend)]
        difference = float(np.abs(pictures[0].astype(float) - pictures[1]).max())
    ms = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return {
        "row": row,
        "backend": backend,
        "upstream_ms": round(ms["upstream"], 1),
        "ours_ms": round(ms["ours"], 1),
        "ratio": round(ms["upstream"] / ms["ours"], 2),
        "upstream_peak_mib": ends["upstream"]["peak_mib"],
        "ours_peak_mib": ends["ours"]["peak_mib"],
        "ours_loaded_mib": ends["ours"]["loaded_mib"],
        "largest_difference": difference,
        "ours_parts_s": ends["ours"]["parts_s"],
    }


def rows() -> list[tuple[str, str, int]]:
    """Return each row's name, our back end, and how often it is measured."""
    backends = ("torch", "winograd", "openvino", "openvino-bf16")
    return [
        *(("network", backend, 5) for backend in backends),
        ("detection", "auto", 3),
        ("mask parsing", "auto", 3),
        ("mask parsing-fast", "auto", 3),
        ("paste 12 12", "auto", 1),
        ("background", "auto", 3),
        *((f"photo {n} {mp} template", "auto", 1) for n, mp in PHOTOS),
        *((f"photo 4 4 {mask}", "auto", 1) for mask in ("parsing-fast", "parsing")),
        ("enhance 4 4", "auto", 1),
    ]


def _chart(measured: list[dict[str, Any]], path: Path) -> None:
    """Draw how many times as fast each row is (left), and how a photo's time grows (right)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (bars, lines) = pyplot.subplots(
        1, 2, figsize=(13, 0.34 * len(measured) + 1.2), layout="constrained", width_ratios=[3, 2]
    )
    names = [f"{m['row']} ({m['backend']})" for m in measured]
    drawn = bars.barh(names, [m["ratio"] for m in measured], color="#3b6ea5")
    bars.bar_label(drawn, [f" {m['ratio']:g}x" for m in measured], fontsize=8)
    bars.axvline(1, color="#999999", linewidth=1)
    bars.invert_yaxis()
    bars.set_xscale("log")
    bars.set_xlabel("times as fast as upstream's gfpgan 1.3.8, same machine, same run")
    bars.tick_params(labelsize=8)
    found = {m["row"]: m for m in measured}
    counts = sorted({faces for faces, _ in PHOTOS})
    for (mp, shade), (who, color) in (
        (size, series)
        for size in zip(SIZES_MP, (1.0, 0.65, 0.35), strict=True)
        for series in (("upstream", "#b5523b"), ("ours", "#3b6ea5"))
    ):
        photos = [found.get(f"photo {n} {mp} template") for n in counts]
        seconds = [m[f"{who}_ms"] / 1e3 if m else np.nan for m in photos]
        lines.plot(counts, seconds, "o-", color=color, alpha=shade, label=f"{who}, {mp} MP")
    lines.set_yscale("log")
    lines.set_xticks(counts)
    lines.set_xlabel("faces in the photo")
    lines.set_ylabel("seconds, no background enlargement, scale 2")
    lines.legend(fontsize=8)
    for axes in (bars, lines):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"))
    parser.add_argument("--chart", type=Path, help="PNG of the ratios, and of how time grows")
    parser.add_argument("--only", default="", help="rows whose name, with our back end, starts so")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        row, who, folder = arguments.side
        _serve(row, who, Path(folder))
        return 0
    known = json.loads(arguments.output.read_text()) if arguments.output.is_file() else []
    done = {(m["row"], m["backend"]): m for m in known}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weights(folder)
        for row, backend, repeats in rows():
            if not f"{row} {backend}".startswith(arguments.only):
                continue
            try:
                done[row, backend] = measured = measure(row, backend, repeats, folder)
            except InputError as error:
                print(f"{row} {backend} is left out: {error}", file=sys.stderr, flush=True)
                continue
            print(*(f"{value}" for value in measured.values()), sep="\t", flush=True)
            measured_all = [done[r, b] for r, b, _ in rows() if (r, b) in done]
            arguments.output.write_text(json.dumps(measured_all, indent=1) + "\n")
    if arguments.chart:
        _chart([done[r, b] for r, b, _ in rows() if (r, b) in done], arguments.chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
