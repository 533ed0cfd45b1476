"""Measure, or estimate, the memory and the images/s of the full-size training step.

    python -m scripts.training_cost --config configs/gfpgan_v1.yaml --batch 4

With a GPU the step is run and its peak memory and rate measured. Without one they are estimated:
the memory from parameters, gradients, optimizers and every tensor that the backward pass keeps,
which a step of batch 1 shows on the CPU; the rate from the operations counted in that step and the
rate at which `--tflops` says that the GPU does them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.utils.flop_counter import FlopCounterMode

from gfpgan_core.errors import InputError
from train.components import template_boxes
from train.config import TrainConfig
from train.config_file import load_config
from train.dataset import Sample
from train.restoration import RestorationTrainer

_GIB = 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--batch", type=int, default=4, help="images a step")
    parser.add_argument(
        "--tflops",
        type=float,
        default=20,
        help="10^12 operations a second that a GPU sustains (default 20: about 30 %% of the peak in"
        " bf16, 60 %% in fp32, of a card with 24 GiB of 2020 to 2022)",
    )
    options = parser.parse_args()
    try:
        config = load_config(options.config, options.set)
        # The pretrained networks' weights aren't needed to count: random ones cost the same.
        config = dataclasses.replace(config, start_from="", prior="", validation_faces="")
        accelerator = Accelerator(mixed_precision="bf16" if config.precision == "bf16" else "no")
        model = RestorationTrainer(config, accelerator)
    except InputError as error:
        print(error, file=sys.stderr)
        return 1
    fixed = _fixed_bytes(model)
    print(f"networks, gradients, EMA and optimizers  {fixed / _GIB:.2f} GiB")
    if accelerator.device.type == "cuda":
        _measure(model, config, options.batch)
        return 0
    kept = _kept_bytes(model, config)
    print(f"kept for the backward pass, an image     {kept / _GIB:.2f} GiB")
    total = fixed + options.batch * kept
    print(f"estimated for a batch of {options.batch:<3}             {total / _GIB:.1f} GiB")
    operations = _operations(model, config)
    print(f"operations, an image                     {operations / 1e12:.2f} TFLOP")
    rate = options.tflops * 1e12 / operations
    print(f"estimated rate                           {rate:.1f} images/s")
    return 0


def _sample(config: TrainConfig, batch: int, device: torch.device) -> Sample:
    size = config.generator.face_size_px
    image = torch.rand(batch, 3, size, size, device=device) * 2 - 1
    boxes = torch.from_numpy(template_boxes()).float().to(device) * size / 512
    return Sample(image, image.flip(-1), boxes.expand(batch, 3, 3), torch.arange(batch))


def _fixed_bytes(model: RestorationTrainer) -> int:
    """Return the bytes of weights, gradients, Adam's moments (4 x float32) and the average."""
    parameters = sum(p.numel() for n in model.networks.values() for p in n.parameters())
    average = sum(p.numel() for p in model.ema.network.parameters())
    return 4 * (4 * parameters + average)


def _kept_bytes(model: RestorationTrainer, config: TrainConfig) -> int:
    """Return the bytes of what autograd saves in a generator step of one image."""
    own = {p.untyped_storage().data_ptr() for n in model.networks.values() for p in n.parameters()}
    kept: dict[int, int] = {}
    held: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # as long as it lives, nothing else gets its address
        return tensor

    model.loss_networks.set_learning(False)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.generator_losses(_sample(config, 1, model.device), step=0)
    return sum(kept.values())


def _operations(model: RestorationTrainer, config: TrainConfig) -> int:
    """Return the multiplications and additions of a step of one image, without the lazy penalty."""
    step = config.discriminators.warmup_steps + 1
    with FlopCounterMode(display=False) as counter:
        model.step([_sample(config, 1, model.device)], step)
    return counter.get_total_flops()


def _measure(model: RestorationTrainer, config: TrainConfig, batch: int) -> None:
    sample = _sample(config, batch, model.device)
    first = config.discriminators.warmup_steps
    for step in range(first, first + 3):
        model.step([sample], step)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    started, steps = time.perf_counter(), config.losses.r1_every_steps  # one penalty among them
    for step in range(first + 3, first + 3 + steps):
        model.step([sample], step)
    torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / _GIB
    print(f"batch {batch}: {steps * batch / seconds:.2f} images/s, peak {peak:.1f} GiB")


if __name__ == "__main__":
    sys.exit(main())
