"""Splits a folder of aligned faces into people to train on and people to measure on.

    python -m scripts.split_faces faces.csv SOURCE DESTINATION [--held-out 64]

The CSV has columns `file` and `person`. DESTINATION/train and DESTINATION/heldout get links; all
photos of a person go to the same side, and each held-out person gives one photo.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--held-out", type=int, default=64, help="people to measure on")
    options = parser.parse_args()

    with options.table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    people = sorted({row["person"] for row in rows})
    chosen = np.random.default_rng(0).choice(len(people), options.held_out, replace=False)
    held_out = {people[i] for i in chosen}
    seen: set[str] = set()
    for row in rows:
        person = row["person"]
        if person in held_out and person in seen:
            continue
        seen.add(person)
        side = options.destination / ("heldout" if person in held_out else "train")
        side.mkdir(parents=True, exist_ok=True)
        (side / row["file"]).symlink_to((options.source / row["file"]).resolve())
    print(f"{len(people) - len(held_out)} people to train on, {len(held_out)} to measure on")


if __name__ == "__main__":
    main()
