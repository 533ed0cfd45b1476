"""`python -m train --config FILE`: trains, or resumes, the run that a configuration describes."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import shutil
import sys
from pathlib import Path

import yaml

from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.runtime import configure_process
from train.config import load_config


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see configs/")
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
    try:
        config = load_config(options.config, options.set)
        if options.dry_run:
            from train.networks import parameter_counts

            print(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False), end="")
            for name, count in parameter_counts(config).items():
                print(f"# {name}: {count:,} parameters")
            return 0
        from train.loop import train
        from train.optimise import TrainingError
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    configure_process()
    try:
        weights = train(config)
        if options.export:
            options.export.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(weights, options.export)
    except (InputError, WeightsError, TrainingError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
