"""The schedule of the shipped weights, at a toy size: from stage to stage, stopped and resumed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from accelerate import Accelerator
from conftest import random_network
from torch import Tensor

from gfpgan_core import images
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.weights.checkpoint import read_state, save_safetensors, save_tensors
from gfpgan_core.weights.load import load_file
from scripts import evaluate, export_checkpoint
from scripts.train_stages import train_stages
from train import checkpoint
from train.config_file import load_config
from train.faceres import FaceRes
from train.faces import open_faces
from train.restoration import RestorationTrainer
from train.validate import strengths_at, validate

SCHEDULE = Path(__file__).parents[1] / "experiments" / "compact_256"
STEPS = dict(
    zip((f"stage_{name}" for name in "abcdefghi"), (3, 4, 3, 2, 2, 1, 1, 1, 1), strict=True)
)


class StoppedError(Exception):
    """What a kill is here: nothing after it runs."""


def _toy(stage: Path, mobilenet: str) -> dict[str, Any]:
    """The stage's own configuration, of small faces and few steps."""
    values: dict[str, Any] = yaml.safe_load(stage.read_text(encoding="utf-8"))
    generator = values["generator"]
    size_px = generator["face_size_px"] // 8
    generator |= {"face_size_px": size_px, "narrow": 0.03125, "style_features": 8}
    generator["level_factors"] = [[16, 2.0], [32, 2.0], [64, 2.0]][: 2 if size_px == 32 else 3]
    if values["start_from"] == "compact":
        values["start_from"] = "compact.safetensors"
    if "discriminators" in values:
        values["discriminators"] |= {"component_narrow": 0.0625, "warmup_steps": 1}
        if size_px == 64:
            values["discriminators"]["crop_px"] = 32
        values["losses"] |= {"projected_weights": mobilenet, "perceptual_weights": mobilenet}
    steps = STEPS[stage.stem]
    changes = {"steps": steps, "checkpoint_every_steps": 1, "validate_every_steps": steps}
    return values | changes | {"workers": 0, "batch_size": 2, "warmup_steps": 1}


@pytest.fixture(scope="module")
def schedule(
    faces: Path, mobilenet: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Toy stages, beside two folders to run them in; in `whole` they have run without a stop."""
    root = tmp_path_factory.mktemp("schedule")
    folder = root / "stages"
    folder.mkdir()
    for stage in sorted(SCHEDULE.glob("stage_*.yaml")):
        (folder / stage.name).write_text(yaml.safe_dump(_toy(stage, mobilenet)))
    start = random_network(0, GeneratorConfig(64, 1, 0.03125, 8, 0))
    two = sorted(faces.glob("*.png"))[:2]
    for run in ("whole", "stopped"):
        for side in ("256", "512"):
            for name in ("train", "choose"):
                (root / run / "faces" / side / name).mkdir(parents=True)
                for face in two:
                    shutil.copy(face, root / run / "faces" / side / name)
        save_safetensors(start, root / run / "compact.safetensors")
        save_tensors(FaceRes().state_dict(), root / run / "faceres.safetensors")
    threads, before = torch.get_num_threads(), Path.cwd()
    torch.set_num_threads(1)
    seen: list[int] = []
    train_stages(folder, root / "whole", lambda step, losses: seen.append(step))
    assert seen == [1, 2, 3, 1, 2, 3, 4, 1, 2, 3, 1, 2, 1, 2, 1, 1, 1, 1]
    yield folder
    os.chdir(before)  # the stages leave it
    torch.set_num_threads(threads)


def _state(path: Path) -> dict[str, Tensor]:
    return read_state(path)[0]


def test_the_schedule_goes_through_all_stages_and_resumes_bit_for_bit(schedule: Path) -> None:
    root = schedule.parent
    stages = root / "first_stages"  # those that came later are of stage c's kind
    stages.mkdir()
    for name in "abcd":
        shutil.copy(schedule / f"stage_{name}.yaml", stages)
    for stops_after in (2, 1, 3, 2):  # in stages a, b (twice) and c; each start goes on
        count = 0

        def stop(step: int, losses: dict[str, float], limit: int = stops_after) -> None:
            nonlocal count
            count += 1
            if count == limit:
                raise StoppedError

        with pytest.raises(StoppedError):
            train_stages(stages, root / "stopped", stop)
    train_stages(stages, root / "stopped")

    for stage in (path.stem for path in stages.iterdir()):
        files = sorted((root / "whole" / "run" / stage).glob("*.safetensors"))
        names = ["best", "last"] if stage == "stage_a" else ["last"]
        assert [file.stem for file in files] == names
        for file in files:
            ours, theirs = _state(file), _state(root / "stopped" / "run" / stage / file.name)
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                assert torch.equal(value, theirs[key]), (stage, file.name, key)
    seen: list[int] = []
    train_stages(stages, root / "stopped", lambda step, losses: seen.append(step))
    assert not seen  # a schedule that is done trains no more


def test_a_stage_takes_over_the_discriminators_and_what_their_optimizer_knows(
    schedule: Path,
) -> None:
    os.chdir(schedule.parent / "whole")
    before = checkpoint.load_newest(Path("run/stage_b"))
    assert before is not None
    config = load_config(schedule / "stage_c.yaml", [])
    trainer = RestorationTrainer(config, Accelerator(cpu=True))
    names = {"projected", "patch", "left_eye", "right_eye", "mouth"}
    assert set(trainer.networks) == {"generator", *names}
    for name in names:
        for key, value in trainer.networks[name].state_dict().items():
            assert torch.equal(value, before.networks[name][key]), (name, key)
    found = trainer.optimizers["discriminators"].state_dict()["state"]
    expected = before.optimizers["discriminators"]["state"]
    assert found.keys() == expected.keys() and len(found) > 20
    for key, moments in expected.items():
        assert torch.equal(found[key]["exp_avg_sq"], moments["exp_avg_sq"])
        assert moments["exp_avg_sq"].abs().sum() > 0

    # And its first picture is what the stage before adds to the halved face, enlarged.
    small = load_file(Path("run/stage_b/last.safetensors")).eval()
    lq = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 3, 64, 64))).float()
    reduced = F.interpolate(lq, scale_factor=0.5, mode="bilinear")
    change = F.interpolate(small(reduced) - reduced, scale_factor=2, mode="bilinear")
    with torch.no_grad():
        image = trainer.generator.eval()(lq)
    torch.testing.assert_close(image, lq + change, atol=1e-5, rtol=0)


def test_a_run_without_those_discriminators_is_named(schedule: Path) -> None:
    os.chdir(schedule.parent / "whole")
    override = "discriminators.start_from=run/none"
    config = load_config(
        schedule / "stage_b.yaml",
        [override, "start_from=compact.safetensors", "adapt_start=true"],
    )
    with pytest.raises(InputError, match="holds no checkpoint with projected, patch"):
        RestorationTrainer(config, Accelerator(cpu=True))


def test_a_running_stage_is_exported_in_half_precision_with_its_step(
    schedule: Path, tmp_path: Path
) -> None:
    run, path = schedule.parent / "whole" / "run" / "stage_c", tmp_path / "half.safetensors"
    assert export_checkpoint.main([str(run), str(path), "--half"]) == 0
    state, metadata = read_state(path)
    assert metadata["step"] == "3"
    last = _state(run / "last.safetensors")
    assert all(torch.equal(state[name], value.half()) for name, value in last.items())
    assert load_file(path).config == load_file(run / "last.safetensors").config
    assert path.stat().st_size < 0.6 * (run / "last.safetensors").stat().st_size
    assert export_checkpoint.main([str(tmp_path), str(path)]) == 1


def test_one_command_measures_weights_at_three_strengths(
    schedule: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = schedule.parent / "whole"
    files = [root / "run" / stage / "last.safetensors" for stage in ("stage_a", "stage_b")]
    copies = [shutil.copy(file, tmp_path / f"{i}.safetensors") for i, file in enumerate(files)]
    sheet, figures = tmp_path / "sheet.png", tmp_path / "figures.json"
    given = [text for copy in copies for text in ("--weights", str(copy))]
    faces = str(root / "faces" / "256" / "train")
    assert evaluate.main([faces, *given, "--sheet", str(sheet), "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    rows = [
        line.split("|")[1:3] for line in said.splitlines() if " dB" not in line and "->" in line
    ]
    expected = [(n, s) for n in ("0", "1") for s in ("mild", "medium", "heavy")]
    assert [(name.strip(), strength.strip()) for name, strength in rows] == expected
    found = json.loads(figures.read_text())["1"]["heavy"]
    config = strengths_at(32)["heavy"]
    again = validate(load_file(Path(copies[1])), open_faces(Path(faces)), config, "cpu")
    assert found["restored"]["psnr_db"] == pytest.approx(again.restored.psnr_db)
    assert images.read_rgb(sheet).shape == (2 * 32, 2 * 3 * 3 * 32, 3)

    own = tmp_path / "own.yaml"
    given = [faces, "--weights", str(copies[1]), "--config", str(own), "--json", str(figures)]
    own.write_text("run_folder: x\ntrain_faces: x\nvalidation_degradation: heavy\n")
    assert evaluate.main(given) == 0
    at_512_px = json.loads(figures.read_text())["1"]["own"]  # taken as it stands, in pixels
    assert at_512_px["degraded"]["psnr_db"] < found["degraded"]["psnr_db"]
    own.write_text("run_folder: x\ntrain_faces: x\nvalidation_strengths: [heavy]\n")
    assert evaluate.main(given) == 0
    assert json.loads(figures.read_text())["1"] == {"heavy": found}  # at the network's size
    own.write_text("validation_degradation: soft\n")
    assert evaluate.main(given) == 1
    assert "run_folder is missing" in capsys.readouterr().err


def test_a_folder_without_stages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no stage"):
        train_stages(tmp_path, tmp_path)
