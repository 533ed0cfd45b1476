"""Draw the curves of a training from its log.

python -m scripts.training_curves runs/compact_stage4/log.jsonl experiments/compact/curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_SMOOTHING = 10  # entries of the log


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, help="log.jsonl of a run")
    parser.add_argument("picture", type=Path, help="PNG to write")
    options = parser.parse_args()
    lines = options.log.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    curves: dict[str, dict[int, float]] = {}
    for entry in entries:  # a resumed run repeats the steps after its checkpoint: the last counts
        for name, value in _values(entry).items():
            curves.setdefault(name, {})[entry["step"]] = value
    columns = 4
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.4 * rows), squeeze=False)
    for axis in axes.flat[len(curves) :]:
        axis.axis("off")
    for axis, (name, points) in zip(axes.flat, curves.items(), strict=False):
        steps, values = np.array(sorted(points.items())).T
        is_validation = name.startswith("validation")
        axis.plot(steps, values, "o-" if is_validation else "-", alpha=1 if is_validation else 0.3)
        if len(values) > 2 * _SMOOTHING:
            mean = np.convolve(values, np.full(_SMOOTHING, 1 / _SMOOTHING), "valid")
            axis.plot(steps[_SMOOTHING - 1 :], mean)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=7)
    figure.supxlabel("step", fontsize=9)
    figure.tight_layout()
    figure.savefig(options.picture, dpi=80)
    print(options.picture)


def _values(entry: dict[str, Any]) -> dict[str, float]:
    if "validation" in entry:
        restored = entry["validation"]["restored"]
        return {f"validation: {name}": value for name, value in restored.items()}
    return {name: value for name, value in entry.items() if name not in ("step", "seconds")}


if __name__ == "__main__":
    main()
