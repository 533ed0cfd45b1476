"""Checkpoint files: whole or not there, whatever happens while they are written."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
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


def save_steps(folder: Path, *steps: int) -> Path:
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
    path = save_steps(tmp_path, 2, 4)
    assert callable(damage)
    path.write_bytes(damage(bytearray(path.read_bytes())))
    assert _newest_step(tmp_path) == 2


def test_a_run_whose_checkpoints_are_all_damaged_isnt_begun_anew(tmp_path: Path) -> None:
    save_steps(tmp_path, 2, 4)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 2 checkpoints .* can be read"):
        checkpoint.load_newest(tmp_path)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    """Everything that an optimizer and a configuration hold; the values are torch's own."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters(), 0.001, betas=(0.0, 0.99))
    layer(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    saved = Checkpoint(
        step=7,
        networks={"generator": layer.state_dict(), "bn": torch.nn.BatchNorm2d(2).state_dict()},
        ema={
            "half": torch.randn(3).bfloat16(),
            "view": torch.randn(4, 4).t(),
            "none": torch.ones(0),
        },
        optimizers={"generator": optimizer.state_dict()},
        scalars={"best": float("-inf"), "mean": 0.1},
        random_state=torch.get_rng_state(),
        config={"sizes": (1, 2), "names": ["ä", None, True], "large": 2**70, "inner": {3: {}}},
    )
    checkpoint.save(saved, tmp_path, keep=1)
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    for name, expected in vars(saved).items():
        _assert_same(getattr(found, name), expected)


def _assert_same(found: object, expected: object) -> None:
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == expected.dtype and torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert isinstance(found, dict) and list(found) == list(expected)
        for key, value in expected.items():
            _assert_same(found[key], value)
    else:
        assert type(found) is type(expected) and found == expected


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of a stranger",)


def _with_code(path: Path) -> None:
    torch.save(vars(_checkpoint(4)) | {"scalars": _Harm()}, path)


def _of_another_kind(path: Path) -> None:
    torch.save(vars(_checkpoint(4)) | {"step": "4"}, path)


def _that_says_more_than_it_has(path: Path) -> None:
    """A storage of 100,000 values in a record of 40 bytes: torch reads whatever memory follows."""
    _rewritten(path, lambda name, data: data[:40] if name.endswith("data/0") else data)


def _compressed(path: Path) -> None:
    _rewritten(path, lambda _, data: data, zipfile.ZIP_DEFLATED)


def _rewritten(
    path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    data = path.read_bytes()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as before,
        zipfile.ZipFile(path, "w", compression) as after,
    ):
        for name in before.namelist():
            after.writestr(name, change(name, before.read(name)))


def _overlapping(path: Path) -> None:
    """Two entries of the archive's list lead to the same bytes."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    large, other = (m for m in members if m.filename.endswith(("data/0", "data/1")))
    entry = data.rindex(other.filename.encode()) - 46
    size, start = large.file_size, large.header_offset
    struct.pack_into("<IIIHHHHHII", data, entry + 16, large.CRC, size, size,
                     len(other.filename), 0, 0, 0, 0, 0, start)  # fmt: skip
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (_with_code, "more than plain values"),
        (_of_another_kind, "its step is no int"),
        (_that_says_more_than_it_has, "shorter than it says"),
        (_compressed, "compressed, which torch doesn't do"),
        (_overlapping, "overlap"),
    ],
)
def test_a_hostile_checkpoint_is_refused_and_its_code_isnt_run(
    make: Callable[[Path], None],
    text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(save_steps(tmp_path, 2, 4))
    assert _newest_step(tmp_path) == 2
    assert text in caplog.text
    assert "stranger" not in capsys.readouterr().out


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    save_steps(tmp_path, 2, 4, 6)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_00000004.pt", "checkpoint_00000006.pt"]


SAVE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from test_checkpoint import save_steps
from train.errors import TrainingError
try:
    save_steps(Path(sys.argv[1]), 4)
except TrainingError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    save_steps(tmp_path, 2)
    result = run_code(SAVE, tmp_path, before=full_disk(200_000))
    assert result.returncode == 1, result.stderr
    assert "checkpoint_00000004.pt can't be written: [Errno 27] File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_00000002.pt"]
    assert _newest_step(tmp_path) == 2


def test_a_folder_that_cant_be_written_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    need_permissions(tmp_path)
    folder = tmp_path / "run"
    save_steps(folder, 2)
    folder.chmod(0o555)
    result = run_code(SAVE, folder, before=obeying_permissions)
    folder.chmod(0o755)
    assert result.returncode == 1, result.stderr
    assert "can't be written: [Errno 13] Permission denied" in result.stderr
    assert _newest_step(folder) == 2


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path: Path) -> None:
    """At the worst moment: everything is written, and the file hasn't got its name yet."""
    save_steps(tmp_path, 2)
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
    save_steps(tmp_path, 4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["checkpoint_00000002.pt", "checkpoint_00000004.pt"]  # what was left is gone
