"""The training loop: data, steps, log, validation, checkpoints; resumes by itself."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import torch
import yaml
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_decoder, save_safetensors
from train import checkpoint, components
from train.checkpoint import Checkpoint
from train.components import Boxes
from train.config import TrainConfig
from train.dataset import FaceDataset, Sample, StepSampler, collate
from train.faces import Faces, open_faces
from train.metrics import load_metrics
from train.prior import Prior
from train.restoration import RestorationTrainer
from train.validate import Validation, validate, validation_sheet

_logger = logging.getLogger(__name__)

BEST = "best.safetensors"
LAST = "last.safetensors"


def train(
    config: TrainConfig, on_step: Callable[[int, dict[str, float]], None] | None = None
) -> Path:
    """The file of the averaged (EMA) weights after `config.steps` steps, `last.safetensors`.

    A run folder that holds a checkpoint is resumed; on the CPU the result equals that of a run
    that was never interrupted, bit for bit. `on_step` is told each step's number and losses.

    Raises:
        InputError: unusable data or configuration, or a run folder of another configuration.
        TrainingError: a loss is not finite.
    """
    accelerator = Accelerator(
        cpu=config.device == "cpu",
        mixed_precision="bf16" if config.precision == "bf16" else "no",
    )
    _check_batch(config, accelerator.num_processes)
    folder = Path(config.run_folder)
    faces = open_faces(Path(config.train_faces))
    held_out = _held_out(config)
    torch.manual_seed(config.seed)
    model = _model(config, accelerator)
    step, scalars = _resume(model, config, folder)
    batches = _batches(config, faces, step, accelerator)
    with _Log(folder, config, step, active=accelerator.is_main_process) as log:
        while step < config.steps:
            started = time.monotonic()
            share = [next(batches) for _ in range(config.gradient_accumulation_steps)]
            losses = model.step(share, step)
            step += 1
            log.losses(step, time.monotonic() - started, losses)
            is_last = step == config.steps
            if accelerator.is_main_process:
                if held_out and (is_last or step % config.validate_every_steps == 0):
                    scalars |= _validate(model, config, held_out, log, step, scalars, folder)
                if is_last or step % config.checkpoint_every_steps == 0:
                    _save(model, config, folder, step, scalars)
            if on_step:
                on_step(step, losses)
    if accelerator.is_main_process:
        _export(model.ema.network, folder / LAST)
    accelerator.wait_for_everyone()
    return folder / LAST


def _model(config: TrainConfig, accelerator: Accelerator) -> RestorationTrainer | Prior:
    kind = RestorationTrainer if config.objective == "restoration" else Prior
    return kind(config, accelerator)


def _held_out(config: TrainConfig) -> Faces | None:
    if not config.validation_faces:
        return None
    if config.objective == "prior":
        raise InputError("a prior isn't validated: leave validation_faces empty")
    return open_faces(Path(config.validation_faces))


def _check_batch(config: TrainConfig, processes: int) -> None:
    parts = processes * config.gradient_accumulation_steps
    if config.batch_size % parts:
        raise InputError(
            f"batch_size is {config.batch_size}; {processes} processes with"
            f" gradient_accumulation_steps {config.gradient_accumulation_steps} share it:"
            f" {parts} must divide it"
        )
    share = config.batch_size // parts
    group = config.discriminators.stddev_group
    if share > group and share % group:
        raise InputError(
            f"discriminators.stddev_group is {group}; it must divide a process's {share} images"
        )


def _component_boxes(config: TrainConfig, faces: Faces) -> Mapping[str, Boxes]:
    """The boxes by file name; none where components aren't trained or the template serves."""
    if not config.losses.component_adversarial:
        return {}
    path = Path(config.component_boxes or faces.path / components.FILE_NAME)
    if not config.component_boxes and not path.is_file():
        _logger.info("no %s: eyes and mouths are taken where the template has them", path)
        return {}
    return components.load_boxes(path)


def _batches(
    config: TrainConfig,
    faces: Faces,
    first_step: int,
    accelerator: Accelerator,
) -> Iterator[Sample]:
    """This process's micro-batches, on its device."""
    dataset = FaceDataset(
        faces,
        config.degradation,
        face_size_px=config.generator.face_size_px,
        seed=config.seed,
        boxes=_component_boxes(config, faces),
        augmentation=config.augmentation,
    )
    on_gpu = accelerator.device.type == "cuda"
    loader = DataLoader(
        dataset,
        batch_sampler=StepSampler(
            config.batch_size,
            first_step,
            config.steps,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            accumulation=config.gradient_accumulation_steps,
        ),
        num_workers=config.workers,
        collate_fn=collate,
        pin_memory=on_gpu,
        # The loader draws a seed when it starts: not from the state that a resumed run restores.
        generator=torch.Generator(),
    )
    for batch in loader:
        # channels_last: 1.5 times as fast as contiguous, measured on a CPU with bf16.
        lq, gt = (
            image.to(accelerator.device, non_blocking=True, memory_format=torch.channels_last)
            for image in (batch.lq, batch.gt)
        )
        boxes = batch.boxes.to(accelerator.device, non_blocking=True)
        yield Sample(lq, gt, boxes, batch.noise_seed)


def _resume(
    model: RestorationTrainer | Prior, config: TrainConfig, folder: Path
) -> tuple[int, dict[str, float]]:
    """Steps done and the scalars: of the newest checkpoint in the run folder, or none."""
    found = checkpoint.load_newest(folder)
    if found is None:
        folder.mkdir(parents=True, exist_ok=True)
        resolved = yaml.safe_dump(_plain(config), sort_keys=False)
        (folder / "config.yaml").write_text(resolved, encoding="utf-8")
        return 0, {}
    wanted = _plain(config)
    for key in ("generator", "objective"):
        if found.config.get(key) != wanted[key]:
            raise InputError(
                f"{folder} holds a run of another {key}: name another run_folder to start anew"
            )
    if set(found.networks) != set(model.networks):
        raise InputError(
            f"{folder} holds a run with the networks {', '.join(found.networks)}; the losses now"
            f" chosen need {', '.join(model.networks)}: name another run_folder and start_from its"
            f" {LAST}"
        )
    changed = [key for key, value in wanted.items() if found.config.get(key) != value]
    if changed:
        _logger.warning("resuming with other values than before of: %s", ", ".join(changed))
    for name, network in model.networks.items():
        network.load_state_dict(found.networks[name])
    model.ema.network.load_state_dict(found.ema)
    for name, optimizer in model.optimizers.items():
        rates = [group["initial_lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(found.optimizers[name])
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate  # the configuration's, which may have changed
    model.load_scalars(found.scalars)
    torch.set_rng_state(found.random_state)
    _logger.info("resuming %s after step %d", folder, found.step)
    return found.step, dict(found.scalars)


def _save(
    model: RestorationTrainer | Prior,
    config: TrainConfig,
    folder: Path,
    step: int,
    scalars: dict[str, float],
) -> None:
    checkpoint.save(
        Checkpoint(
            step=step,
            networks={name: network.state_dict() for name, network in model.networks.items()},
            ema=model.ema.network.state_dict(),
            optimizers={name: o.state_dict() for name, o in model.optimizers.items()},
            scalars=scalars | model.scalars(),
            random_state=torch.get_rng_state(),
            config=_plain(config),
        ),
        folder,
        config.keep_checkpoints,
    )


def _export(network: nn.Module, path: Path) -> None:
    if isinstance(network, GFPGAN):
        save_safetensors(network, path)
    else:
        save_decoder(network.state_dict(), path)


def _validate(
    model: RestorationTrainer | Prior,
    config: TrainConfig,
    held_out: Faces,
    log: _Log,
    step: int,
    scalars: dict[str, float],
    folder: Path,
) -> dict[str, float]:
    """Figures into the log; the best weights so far, by PSNR, are kept beside the last."""
    network = model.ema.network
    assert isinstance(network, GFPGAN)  # a prior has no held-out faces
    metrics = load_metrics(config.losses.identity_weights, model.device)
    degradation = config.validation_degradation
    result = validate(network, held_out, degradation, model.device, metrics)
    log.validation(
        step,
        result,
        lambda: validation_sheet(network, held_out, degradation, model.device),
    )
    if result.restored.psnr_db <= scalars.get("best_psnr_db", 0):
        return {}
    _export(network, folder / BEST)
    return {"best_psnr_db": result.restored.psnr_db}


class _Log:
    """Progress bar, JSON lines and, if asked for, TensorBoard; silent where it isn't active."""

    def __init__(self, folder: Path, config: TrainConfig, done: int, *, active: bool) -> None:
        self._config = config
        self._stack = ExitStack()
        self._progress = self._stack.enter_context(
            tqdm(total=config.steps, initial=done, unit="step", disable=not active)
        )
        self._file: TextIO | None = None
        self._board: Any = None
        if not active:
            return
        self._file = self._stack.enter_context((folder / "log.jsonl").open("a", encoding="utf-8"))
        if config.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))
            self._stack.callback(self._board.close)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def losses(self, step: int, seconds: float, losses: Mapping[str, float]) -> None:
        self._progress.update()
        if step % self._config.log_every_steps:
            return
        rate = f"{self._config.batch_size / seconds:.2f}"
        self._progress.set_postfix({"images/s": rate} | dict(losses))
        rounded = {name: round(loss, 6) for name, loss in losses.items()}
        self._write({"step": step, "seconds": round(seconds, 3)} | rounded)
        self._scalars("loss", losses, step)

    def validation(self, step: int, result: Validation, sheet: Callable[[], Any]) -> None:
        self._write({"step": step, "validation": dataclasses.asdict(result)})
        self._scalars("validation", dataclasses.asdict(result.restored), step)
        _logger.info("step %d: %s", step, result)
        if self._board:
            self._board.add_image("validation", sheet(), step, dataformats="HWC")

    def _scalars(self, group: str, values: Mapping[str, float | None], step: int) -> None:
        for name, value in values.items():
            if self._board and value is not None:
                self._board.add_scalar(f"{group}/{name}", value, step)

    def _write(self, entry: Mapping[str, object]) -> None:
        if self._file:
            print(json.dumps(entry), file=self._file, flush=True)


def _plain(config: TrainConfig) -> dict[str, Any]:
    """The configuration as JSON types."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return plain
