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
from pathlib import Path

import pytest
import torch
from training_runs import TORCHRUN, makers, newest, run_process, tiny_run

from gfpgan_core.errors import InputError
from train.loop import train

pytestmark = pytest.mark.usefixtures("one_thread")

# Of the layer's norm. Two orders of summation differ by 1e-6 to 1e-4 in float32 (see the figure
# that each test prints); a part of the batch that is left out, or counted twice, by 0.1 and more.
_TOLERANCE = 1e-2
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


@pytest.mark.parametrize("other", ["parts", "two"])
def test_gradients_dont_depend_on_how_a_batch_is_shared(runs: dict[str, Path], other: str) -> None:
    expected, found = newest(runs["one"]), newest(runs[other])
    assert expected.step == found.step == 3
    largest = 0.0
    for name, optimizer in expected.optimizers.items():
        for moment in ("exp_avg", "exp_avg_sq"):
            theirs = [state[moment] for state in optimizer["state"].values()]
            ours = [state[moment] for state in found.optimizers[name]["state"].values()]
            floor = _NEGLIGIBLE * max(torch.linalg.vector_norm(value) for value in theirs)
            for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                norm = max(torch.linalg.vector_norm(b), floor)
                difference = (torch.linalg.vector_norm(a - b) / norm).item()
                assert difference < _TOLERANCE, (name, moment, number, difference)
                largest = max(largest, difference)
    print(f"\nlargest difference of {other}: {largest:.1e} of a layer's norm")


def test_two_processes_write_one_log(runs: dict[str, Path]) -> None:
    steps = [json.loads(line)["step"] for line in (runs["two"] / "log.jsonl").open()]
    assert steps == [1, 2, 3]


def test_batches_that_processes_cant_share_are_refused(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"batch_size is 3.* 2 must divide it"):
        train(tiny_run(faces, tmp_path, batch_size=3, gradient_accumulation_steps=2))
