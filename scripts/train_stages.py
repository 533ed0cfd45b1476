"""Train the stages of a schedule one after another; a second call resumes where the first stopped.

    python -m scripts.train_stages experiments/compact_256 --folder ~/.cache/gfpgan-compact

Several processes share the work under `python -m torch.distributed.run --standalone
--nproc-per-node N -m scripts.train_stages ...`. Two of one thread are faster on a shared machine
than one of two: oneDNN's threads wait for each other by spinning.

Every `stage_*.yaml` is a configuration of `python -m train`, run in the order of the names. Their
paths are relative to the folder. A stage whose `last.safetensors` is there is done; a stage that
was interrupted resumes from its newest checkpoint, bit for bit on a CPU.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from gfpgan_core.errors import InputError
from gfpgan_core.runtime import configure_process
from train.__main__ import exit_status
from train.config_file import load_config

_logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("schedule", type=Path, help="folder of stage_*.yaml")
    parser.add_argument("--folder", type=Path, required=True, help="faces and runs lie here")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return exit_status(lambda: train_stages(options.schedule, options.folder))


def train_stages(
    schedule: Path, folder: Path, on_step: Callable[[int, dict[str, float]], None] | None = None
) -> None:
    """Train every stage that isn't done; call `on_step` with each step's number and losses.

    Raises:
        InputError: no stages, or a configuration that can't be used.
        TrainingError: a loss is not finite.
    """
    configure_process()
    from train.loop import train  # imports torch
    from train.run_folder import LAST

    stages = sorted(schedule.resolve().glob("stage_*.yaml"))
    if not stages:
        raise InputError(f"{schedule} holds no stage_*.yaml")
    configs = [load_config(stage, []) for stage in stages]  # all are checked before the first runs
    os.chdir(folder)  # the configurations' paths are relative to it
    for stage, config in zip(stages, configs, strict=True):
        if (Path(config.run_folder) / LAST).is_file():
            _logger.info("%s is done", stage.stem)
            continue
        _logger.info("%s: %d steps into %s", stage.stem, config.steps, config.run_folder)
        train(config, on_step)


if __name__ == "__main__":
    sys.exit(main())
