"""`python -m train` as a process of its own: what can't be written is told, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import full_disk, need_permissions, obeying_permissions
from training_runs import run_process, tiny_run

from gfpgan_core.errors import InputError
from gfpgan_core.weights.load import load_file
from train.__main__ import main
from train.loop import train


def test_a_run_folder_that_cant_be_written_is_refused(faces: Path, tmp_path: Path) -> None:
    need_permissions(tmp_path)
    folder = tmp_path / "runs"
    folder.mkdir(mode=0o555)
    config = tiny_run(faces, folder / "run", steps=1)
    result = run_process(config, tmp_path / "c.yaml", before=obeying_permissions)
    assert result.returncode == 1
    assert f"run_folder {folder / 'run'} can't be written (Permission denied)" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("name", ["config.yaml", "faces.json", "log.jsonl"])
def test_a_file_of_the_run_that_cant_be_written_is_told(
    faces: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=r"can't be written \(Is a directory\): make room"):
        train(tiny_run(faces, tmp_path, steps=1))
    assert sorted(path.name for path in tmp_path.glob("*.partial")) == []


def test_a_disk_that_fills_up_leaves_the_weights_before(faces: Path, tmp_path: Path) -> None:
    run, export = tmp_path / "run", tmp_path / "own.safetensors"
    config = tiny_run(faces, run, steps=1)
    assert run_process(config, tmp_path / "c.yaml", "--export", str(export)).returncode == 0
    before = (run / "last.safetensors").read_bytes()
    assert export.read_bytes() == before
    # The training is done: the same command writes its weights once more.
    smaller = full_disk(len(before) // 2)
    result = run_process(config, tmp_path / "c.yaml", "--export", str(export), before=smaller)
    assert result.returncode == 1
    assert "last.safetensors can't be written" in result.stderr
    assert "File too large" in result.stderr and "Traceback" not in result.stderr
    for path in (run / "last.safetensors", export):
        assert path.read_bytes() == before
    assert load_file(export).config == config.generator
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("name", ["folder", "file/own.safetensors", "own.pth"])
def test_an_export_that_cant_be_written_is_refused_before_the_training(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    command = [
        "--config",
        str(Path(__file__).parent.parent / "experiments" / "compact" / "compact_stage4.yaml"),
    ]
    command += ["--set", f"run_folder={tmp_path / 'run'}", "--set", f"train_faces={faces}"]
    assert main([*command, "--export", str(tmp_path / name)]) == 1
    assert f"--export {tmp_path / name}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_training_sets_its_threads_before_anything_else(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    monkeypatch.setattr("train.__main__.configure_process", lambda: order.append("threads"))
    monkeypatch.setattr("train.loop.train", lambda _: order.append("training"))
    path = tmp_path / "c.yaml"
    path.write_text(f"run_folder: {tmp_path / 'run'}\ntrain_faces: {faces}\n")
    assert main(["--config", str(path)]) == 0
    assert order == ["threads", "training"]
