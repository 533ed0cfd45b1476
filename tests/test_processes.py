"""One batch dealt out to several processes, or to several parts of a step: the same gradients.

Gradients are compared, not weights: Adam makes a step of the same length from a gradient that is
rounding error as from a large one. Learning rates of 1e-9 keep the weights where they are, so that
the gradients of every step are those of the same network. After three steps Adam's first moment
holds them all (generator, beta 0.9) or the last one (discriminators, beta 0), and its second moment
holds the squares of all of them.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import TORCHRUN, makers, newest, run_process, tiny_run

from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder
from train.config import TrainConfig
from train.config_file import from_dict
from train.loop import train
from train.networks import component_discriminators, face_discriminator

pytestmark = pytest.mark.usefixtures("one_thread")

# Of the layer's norm. Two orders of summation differ by 1e-6 to 1e-5 in float32; a part of the
# batch that is left out, or counted twice, by 0.1 and more. Between them lies what a kink does:
# rounding turns the slope of a leaky ReLU, or the sign of an L1, for a value that is next to it.
# Measured: up to 2.6e-3, with ATEN_CPU_CAPABILITY=default; 7e-6 with a smooth function instead.
_TOLERANCE = 2e-2
# A layer whose gradient is below this share of its network's largest is rounding error as a whole.
_NEGLIGIBLE = 1e-3


@pytest.fixture(scope="module", params=["full", "prior"])
def runs(
    request: pytest.FixtureRequest,
    faces: Path,
    mobilenet: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """Run folders of one process, of gradients accumulated over two parts, of two processes."""
    folder = tmp_path_factory.mktemp(request.param)
    make = makers(mobilenet)[request.param]
    configs = {
        name: make(
            faces,
            folder / name,
            batch_size=4,
            steps=3,
            device="cpu",
            learning_rate=1e-9,
            gradient_accumulation_steps=2 if name == "parts" else 1,
        )
        for name in ("one", "parts", "two")
    }
    for name, config in configs.items():
        discriminators = dataclasses.replace(
            config.discriminators, learning_rate=1e-9, warmup_steps=0
        )
        config = dataclasses.replace(config, discriminators=discriminators)
        if name != "two":
            train(config)
            continue
        result = run_process(config, folder / "two.yaml", launcher=TORCHRUN)
        assert result.returncode == 0, result.stderr
    return {name: folder / name for name in configs}


def _layers(config: TrainConfig) -> dict[str, list[str]]:
    """The layer of each parameter, in the order of each optimizer.

    A noise strength's gradient is a sum that nearly vanishes: it belongs to its convolution's.
    """
    if config.objective == "prior":
        generator: torch.nn.Module = StyleGAN2Decoder(config.generator)
        judges: list[torch.nn.Module] = [face_discriminator(config)]
    else:
        generator = GFPGAN(config.generator)
        judges = [face_discriminator(config), *component_discriminators(config).values()]
    optimized = {"generator": [generator], "discriminators": judges}
    inner = r"(\.modulated_conv)?(\.modulation)?\.(weight|bias)$"
    return {
        name: [
            f"{number}.{re.sub(inner, '', parameter)}"
            for number, network in enumerate(networks)
            for parameter, _ in network.named_parameters()
        ]
        for name, networks in optimized.items()
    }


def _moments(optimizer: dict[str, Any], layers: list[str], moment: str) -> dict[str, torch.Tensor]:
    """One of Adam's moments as a vector for each layer."""
    parts: dict[str, list[torch.Tensor]] = {}
    for number, state in optimizer["state"].items():
        parts.setdefault(layers[number], []).append(state[moment].flatten())
    return {layer: torch.cat(values) for layer, values in parts.items()}


@pytest.mark.parametrize("other", ["parts", "two"])
def test_gradients_dont_depend_on_how_a_batch_is_shared(runs: dict[str, Path], other: str) -> None:
    expected, found = newest(runs["one"]), newest(runs[other])
    assert expected.step == found.step == 3
    config = from_dict(TrainConfig, expected.config)
    layers = _layers(config)
    largest = 0.0
    for name, optimizer in expected.optimizers.items():
        for moment in ("exp_avg", "exp_avg_sq"):
            theirs = _moments(optimizer, layers[name], moment)
            ours = _moments(found.optimizers[name], layers[name], moment)
            floor = _NEGLIGIBLE * max(value.norm() for value in theirs.values())
            for layer, value in theirs.items():
                norm = max(value.norm(), floor)
                difference = ((ours[layer] - value).norm() / norm).item()
                assert difference < _TOLERANCE, (name, moment, layer, difference)
                largest = max(largest, difference)
    print(f"\nlargest difference of {other}: {largest:.1e}")


def test_two_processes_write_one_log(runs: dict[str, Path]) -> None:
    steps = [json.loads(line)["step"] for line in (runs["two"] / "log.jsonl").open()]
    assert steps == [1, 2, 3]


def test_batches_that_processes_cant_share_are_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size is 3.* 2 must divide it"):
        train(tiny_run(faces, tmp_path, batch_size=3, gradient_accumulation_steps=2))
