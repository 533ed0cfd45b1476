"""`gfpgan export`: write weights as files for other tools."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from gfpgan_core.cli.report import Report
from gfpgan_core.errors import InputError, WeightsError, error_text
from gfpgan_core.weights.releases import RELEASES

if TYPE_CHECKING:
    from gfpgan_core.networks.gfpgan import GFPGAN

KINDS = ("pth", "onnx", "hub")

# Names that tell readers which kind of file to expect.
_WEIGHT_SUFFIXES = (".pth", ".pt", ".ckpt", ".onnx", ".safetensors", ".bin")


def export(options: argparse.Namespace) -> int:
    """Write the files, and say where they are; return 0, or 1 if they can't be written."""
    report = Report()
    try:
        _check(options)
        for path in _written(options, _network(options.file)):
            report.line(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    except (InputError, WeightsError) as error:
        report.note(error_text(error))
        return 1
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other, or do nothing together, before anything is read.

    Raises:
        InputError: they do.
    """
    if options.facefusion and options.to != "onnx":
        raise InputError("--facefusion is for --to onnx: facefusion reads nothing else")
    if options.facefusion and options.name:
        raise InputError("--name with --facefusion: facefusion knows its own names only")
    if options.license and options.to != "hub":
        raise InputError("--license is for the card of --to hub: other files have no place for it")
    output = Path(options.output or ".")
    if options.to == "hub" or options.facefusion:
        if output.exists() and not output.is_dir():
            raise InputError(f"--output {output} is a file, and a folder is written: name another")
        return
    kind = output.suffix.lower()
    if kind in _WEIGHT_SUFFIXES and kind != f".{options.to}" and not output.is_dir():
        raise InputError(
            f"--output {output} and --to {options.to} don't agree: name it"
            f" {output.with_suffix(f'.{options.to}')}"
        )


def _network(source: str) -> GFPGAN:
    """Load a weight file, a folder of one, or a release by its name."""
    from gfpgan_core.networks.gfpgan import GFPGAN
    from gfpgan_core.weights.load import load, load_file

    if source not in RELEASES or Path(source).exists():
        return load_file(Path(source))
    network = load(source)
    if not isinstance(network, GFPGAN):
        raise InputError(f"{source} is no GFPGAN: the tools that read exports hold only those")
    return network


def _written(options: argparse.Namespace, network: GFPGAN) -> list[Path]:
    from gfpgan_core.weights.export.hub import export_hub
    from gfpgan_core.weights.export.onnx import export_for_facefusion, export_onnx
    from gfpgan_core.weights.export.pth import export_pth, pth_name

    stem = options.name or (
        options.file if options.file in RELEASES else Path(options.file).absolute().stem
    )
    output = Path(options.output or ".")
    replace = options.overwrite
    if options.to == "hub":
        folder = output if options.output else Path(f"{stem}-hub")
        return export_hub(network, folder, title=stem, license_id=options.license, replace=replace)
    if options.facefusion:
        return export_for_facefusion(network, output, replace=replace)
    is_folder = not options.output or options.output.endswith("/") or output.is_dir()
    name = pth_name(stem) if options.to == "pth" else f"{stem}.onnx"
    path = output / name if is_folder else output
    if options.to == "pth":
        export_pth(network, path, replace=replace)
    else:
        export_onnx(network, path, replace=replace)
    return [path]
