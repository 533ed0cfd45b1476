"""`python -m train --config FILE`: train, or resume, the run that a configuration describes.

`--upstream-config FILE` takes an option file of upstream's training instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.files import whole_file
from gfpgan_core.runtime import configure_process
from train.config import TrainConfig
from train.config_file import load_config
from train.errors import TrainingError
from train.upstream_config import load_upstream_config


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", type=Path, help="YAML file, see configs/")
    which.add_argument(
        "--upstream-config",
        type=Path,
        metavar="FILE",
        help="option file of upstream's training, such as options/train_gfpgan_v1.yml",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace a value, e.g. --set steps=100 --set losses.pyramid=0",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the configuration and stop")
    parser.add_argument("--export", type=Path, help="write the averaged weights here (safetensors)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    return exit_status(lambda: _run(options))


def exit_status(work: Callable[[], None]) -> int:
    """Do the work; return 0, 1 after a message on what was wrong, or 130 after Ctrl-C."""
    try:
        work()
    except (InputError, WeightsError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    config = _config(options)
    if options.dry_run:
        _describe(config)
        return
    if options.export:
        _check_export(options.export)
    configure_process()
    from train.loop import train  # imports torch

    weights = train(config)
    if options.export:
        _export(weights, options.export)
    logging.info("trained: the weights are in %s", options.export or weights)


def _config(options: argparse.Namespace) -> TrainConfig:
    """Return the configuration of either form; of upstream's, print what became of each key."""
    if options.config:
        return load_config(options.config, options.set)
    config, lines = load_upstream_config(options.upstream_config, options.set)
    for line in lines:
        print(f"# {line}")
    return config


def _describe(config: TrainConfig) -> None:
    """Print the whole configuration, and the size of each network."""
    from train.networks import parameter_counts

    print(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False), end="")
    for name, count in parameter_counts(config).items():
        print(f"# {name}: {count:,} parameters")


def _check_export(path: Path) -> None:
    """Find out before the training whether its result can be written.

    Raises:
        InputError: it can't.
    """
    if path.is_dir():
        raise InputError(f"--export {path} is a folder: name a file in it")
    if path.suffix.lower() in (".pth", ".pt", ".ckpt", ".onnx"):
        raise InputError(
            f"--export {path}: safetensors are written, which readers of {path.suffix} refuse. Name"
            f" it {path.with_suffix('.safetensors')}, and see `python -m gfpgan_core export` for"
            " other kinds of files"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"--export {path} can't be written: {error.strerror}") from error


def _export(weights: Path, path: Path) -> None:
    try:
        with whole_file(path) as temporary:
            shutil.copyfile(weights, temporary)
    except OSError as error:
        raise InputError(
            f"--export {path} can't be written: {error.strerror}. The weights are in {weights}"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
