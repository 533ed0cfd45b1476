"""Measure weights on faces that they were not trained on, at three strengths, and draw them.

    python -m scripts.evaluate ~/.cache/gfpgan-compact/faces/512/report --sheet sheet.png

Every face is degraded with a fixed seed. The table shows input -> output, and NIQE of the truth.
Several `--weights` make one table, each over the same inputs. Faces are brought to the network's
size, and a 512 px face's strengths with them. `--config` takes degradations of one's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gfpgan_core import images
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.load import load, load_file, parameter_count
from gfpgan_core.weights.releases import RELEASES
from train.config_file import load_config
from train.degradation_config import STRENGTHS, DegradationConfig
from train.faces import Faces, open_faces
from train.metrics import load_metrics
from train.validate import (
    Validation,
    strengths_at,
    validate,
    validation_degradations,
    validation_sheet,
)

_HEADER = (
    "| weights | strength | PSNR, dB | SSIM | NIQE (truth) | sharpness | patch distance |"
    " face distance | score |\n|---|---|---|---|---|---|---|---|---|"
)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("faces", type=Path, help="folder, zip, tar or LMDB of aligned faces")
    parser.add_argument(
        "--weights",
        action="append",
        metavar="FILE",
        help="a file, or a release's name; default: compact, which ships",
    )
    parser.add_argument("--strength", choices=list(STRENGTHS), action="append", help="default: all")
    parser.add_argument(
        "--config",
        type=Path,
        help="a training's configuration: measure at what it validates at instead",
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--sheet", type=Path, help="PNG: rows of input, output, truth")
    options = parser.parse_args(arguments)
    if options.config and options.strength:
        parser.error("--config brings its own degradation: leave --strength away")
    try:
        faces = open_faces(options.faces)
        networks = _networks(options.weights)
        size_px = next(iter(networks.values())).config.face_size_px
        degradations = strengths_at(size_px)
        if options.strength:
            degradations = {name: degradations[name] for name in options.strength}
        if options.config:
            found = validation_degradations(load_config(options.config, []), size_px)
            degradations = {name or options.config.stem: one for name, one in found.items()}
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(_HEADER)
    figures = {name: _measure(name, net, faces, degradations) for name, net in networks.items()}
    for name, network in networks.items():
        print(
            f"\n{name}: {parameter_count(network):,} parameters, {len(faces)} faces,"
            f" {_seconds_a_face(network):.2f} s a face on {torch.get_num_threads()} threads"
        )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.sheet:
        sheet = np.hstack([_sheet(network, faces, degradations) for network in networks.values()])
        images.write(options.sheet, images.encode(sheet, None, "png"))
    return 0


def _networks(sources: list[str] | None) -> dict[str, GFPGAN]:
    """Return the networks by their files' or releases' names.

    Raises:
        InputError: one is no GFPGAN, or two of several sizes are to be compared.
        WeightsError: a file is none of ours.
    """
    networks: dict[str, GFPGAN] = {}
    for source in sources or ["compact"]:
        is_release = source in RELEASES and not Path(source).exists()
        network = load(source) if is_release else load_file(Path(source))
        if not isinstance(network, GFPGAN):
            raise InputError(f"--weights {source}: only GFPGAN generators are measured here")
        networks[source if is_release else Path(source).stem] = network
    if len({network.config.face_size_px for network in networks.values()}) > 1:
        raise InputError("the weights are of different face sizes: give each its own command")
    return networks


def _measure(
    name: str, network: GFPGAN, faces: Faces, degradations: dict[str, DegradationConfig]
) -> dict[str, dict[str, object]]:
    """Return the figures at each strength; a row of the table is printed as soon as it is known."""
    metrics = load_metrics("", "cpu")
    figures: dict[str, dict[str, object]] = {}
    for strength, degradation in degradations.items():
        result = validate(network, faces, degradation, "cpu", metrics)
        figures[strength] = dataclasses.asdict(result) | {"score": result.score()}
        print(_row(name, strength, result), flush=True)
    return figures


def _row(name: str, strength: str, result: Validation) -> str:
    a, b = result.degraded, result.restored
    return (
        f"| {name} | {strength} | {a.psnr_db:.2f} -> {b.psnr_db:.2f}"
        f" ({b.psnr_db - a.psnr_db:+.2f}) | {a.ssim:.3f} -> {b.ssim:.3f} | {a.niqe:.2f} ->"
        f" {b.niqe:.2f} ({result.truth_niqe:.2f}) | {a.sharpness:.2f} -> {b.sharpness:.2f} |"
        f" {_change(a.patch_distance, b.patch_distance, 2)} |"
        f" {_change(a.face_distance, b.face_distance, 3)} | {result.score():.2f} |"
    )


def _change(before: float | None, after: float | None, digits: int) -> str:
    """Return "none" for what could not be measured."""
    if before is None or after is None:
        return "none"
    return f"{before:.{digits}f} -> {after:.{digits}f}"


def _sheet(
    network: GFPGAN, faces: Faces, degradations: dict[str, DegradationConfig]
) -> NDArray[np.uint8]:
    """Draw the degradations side by side."""
    sheets = [validation_sheet(network, faces, one, "cpu") for one in degradations.values()]
    return np.asarray(np.hstack(sheets), np.uint8)


@torch.inference_mode()
def _seconds_a_face(network: GFPGAN) -> float:
    """Return the median of ten runs after one to warm up."""
    lq = torch.zeros(1, 3, network.config.face_size_px, network.config.face_size_px)
    times = []
    for _ in range(11):
        started = time.perf_counter()
        network(lq)
        times.append(time.perf_counter() - started)
    return float(np.median(times[1:]))


if __name__ == "__main__":
    sys.exit(main())
