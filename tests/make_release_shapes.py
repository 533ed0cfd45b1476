"""Writes tests/data/*.json: names and shapes of the official files' tensors.

The official files load strictly into upstream's networks, so these have the files' names.
"""

from __future__ import annotations

import json
from pathlib import Path

import upstream


def main() -> None:
    networks = {
        "gfpgan_clean": upstream.generator("clean", size=512, channel_multiplier=2, narrow=1),
        "v1": upstream.generator("original", size=512, channel_multiplier=1, narrow=1),
        "RestoreFormer": upstream.restoreformer(),
    }
    for name, network in networks.items():
        shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
        lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in shapes.items())
        path = Path(__file__).parent / "data" / f"{name}.json"
        path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
