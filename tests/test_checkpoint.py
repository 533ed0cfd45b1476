"""Checkpoint files: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from faults import full_disk, need_permissions, obeying_permissions, run_code

from gfpgan_core.errors import InputError
from train import checkpoint
from train.checkpoint import Checkpoint


def _checkpoint(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        networks={"generator": {"weight": torch.full((100_000,), float(step))}},
        ema={"weight": torch.zeros(10)},
        optimizers={},
        scalars={},
        random_state=torch.get_rng_state(),
        config={},
    )


def _save(folder: Path, *steps: int) -> Path:
    return [checkpoint.save(_checkpoint(step), folder, keep=2) for step in steps][-1]


def _newest_step(folder: Path) -> int:
    found = checkpoint.load_newest(folder)
    assert found is not None
    assert (found.networks["generator"]["weight"] == found.step).all()
    return found.step


def _cut_off(data: bytearray) -> bytearray:
    return data[:1000]


def _flip_a_bit(data: bytearray) -> bytearray:
    data[len(data) // 2] ^= 1  # in the weights: torch itself reads such a file without a word
    return data


@pytest.mark.parametrize("damage", [_cut_off, _flip_a_bit])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: object) -> None:
    path = _save(tmp_path, 2, 4)
    assert callable(damage)
    path.write_bytes(damage(bytearray(path.read_bytes())))
    assert _newest_step(tmp_path) == 2


def test_a_run_whose_checkpoints_are_all_damaged_isnt_begun_anew(tmp_path: Path) -> None:
    _save(tmp_path, 2, 4)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 checkpoints .* can be read"):
        checkpoint.load_newest(tmp_path)


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    _save(tmp_path, 2, 4, 6)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_00000004.pt", "checkpoint_00000006.pt"]


SAVE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_checkpoint import _save
from train.errors import TrainingError
try:
    _save(Path(sys.argv[1]), 4)
except TrainingError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    _save(tmp_path, 2)
    result = run_code(SAVE, tmp_path, before=full_disk(200_000))
    assert result.returncode == 1, result.stderr
    assert "checkpoint_00000004.pt can't be written: [Errno 27] File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_00000002.pt"]
    assert _newest_step(tmp_path) == 2


def test_a_folder_that_cant_be_written_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    need_permissions(tmp_path)
    folder = tmp_path / "run"
    _save(folder, 2)
    folder.chmod(0o555)
    result = run_code(SAVE, folder, before=obeying_permissions)
    folder.chmod(0o755)
    assert result.returncode == 1, result.stderr
    assert "can't be written: [Errno 13] Permission denied" in result.stderr
    assert _newest_step(folder) == 2


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    """At the worst moment: everything is written, and the file hasn't got its name yet."""
    _save(tmp_path, 2)
    hold = (
        "import pathlib, time\ndef wait(*_):\n  print('written', flush=True)\n  time.sleep(9999)\n"
    )
    code = hold + "pathlib.Path.replace = wait\n" + SAVE
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert len(list(tmp_path.iterdir())) == 2
    assert _newest_step(tmp_path) == 2
    _save(tmp_path, 4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_00000002.pt", "checkpoint_00000004.pt"]  # what was left is gone
