"""Log a run: a progress bar, JSON lines, TensorBoard."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from gfpgan_core.files import whole_file
from train.config import TrainConfig
from train.errors import TrainingError
from train.validate import Validation

_logger = logging.getLogger(__name__)

FILE_NAME = "log.jsonl"


class TrainingLog:
    """Continues a log after step `done`; removes the lines of later steps of an interrupted run."""

    def __init__(self, folder: Path, config: TrainConfig, done: int, *, active: bool) -> None:
        self._config = config
        self._stack = ExitStack()
        self._progress = self._stack.enter_context(
            tqdm(total=config.steps, initial=done, unit="step", disable=None if active else True)
        )
        self._file: TextIO | None = None
        self._board: Any = None
        if not active:
            return
        path = folder / FILE_NAME
        cut_log(path, done)
        self._file = self._stack.enter_context(path.open("a", encoding="utf-8"))
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)
            self._stack.callback(self._board.close)

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def losses(self, step: int, seconds: float, losses: Mapping[str, float]) -> None:
        """Log a step's losses, every few steps."""
        self._progress.update()
        if step % self._config.log_every_steps:
            return
        rate = f"{self._config.batch_size / seconds:.2f}"
        self._progress.set_postfix({"images/s": rate} | dict(losses))
        rounded = {name: round(loss, 6) for name, loss in losses.items()}
        self._write({"step": step, "seconds": round(seconds, 3)} | rounded)
        self._scalars("loss", losses, step)

    def validation(
        self, step: int, result: Validation, sheet: Callable[[], Any], strength: str = ""
    ) -> None:
        """Log a validation's figures; `sheet` makes the picture for TensorBoard, if that is on.

        `strength` names the degradation where there are several.
        """
        named = {"strength": strength} if strength else {}
        self._write({"step": step} | named | {"validation": dataclasses.asdict(result)})
        group = f"validation/{strength}" if strength else "validation"
        self._scalars(group, dataclasses.asdict(result.restored), step)
        _logger.info("step %d %s: %s", step, strength, result)
        if self._board:
            self._board.add_image(group, sheet(), step, dataformats="HWC")

    def selection(self, step: int, figures: Mapping[str, float]) -> None:
        """Log the figure that weights may be chosen by, and the discriminators' ROC AUC."""
        self._write({"step": step, "selection": {n: round(v, 4) for n, v in figures.items()}})
        self._scalars("selection", figures, step)
        _logger.info("step %d: %s", step, dict(figures))

    def _scalars(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        for name, value in values.items():
            if self._board and value is not None:
                self._board.add_scalar(f"{group}/{name}", value, step)

    def _write(self, entry: Mapping[str, object]) -> None:
        if not self._file:
            return
        try:
            print(json.dumps(entry), file=self._file, flush=True)
        except OSError as error:
            raise TrainingError(
                f"{self._file.name} can't be written: {error.strerror}. Make room; the same command"
                " then goes on from the last checkpoint"
            ) from error


def cut_log(path: Path, step: int) -> None:
    """Remove a log's lines of steps after `step`, and a line that was cut off by a kill."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _step_of(line) <= step]
    if kept != lines:
        with whole_file(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> float:
    """Return a line's step; infinite where the line isn't one of ours."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
