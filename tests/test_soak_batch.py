"""That the batch's soak run finds what it looks for: photos lost, repeated, changed, in parts."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HANG_S
from PIL import Image

from gfpgan_core.batch.rows import Row, RowStatus, finish, shard_folder
from gfpgan_core.errors import InputError
from gfpgan_core.images import read_rgb
from scripts.soak_batch import Killer, faults_of, make_photos, report_faults, run_batch

pytest.importorskip("pyarrow", reason="batches need pyarrow")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    make_photos(tmp_path / "photos", 9, 4, 1)
    return tmp_path / "photos"


def _row(photos: Path, number: int, name: str, status: RowStatus, data: bytes = b"") -> Row:
    digest = hashlib.sha256(data).hexdigest() if data else ""
    output = f"{number}.png" if data else ""
    return Row(number, str(photos / name), "", status, output=output, sha256=digest)


@pytest.fixture
def rows(photos: Path) -> list[Row]:
    """The rows of a run without a fault; a good photo's result holds its name."""
    names = sorted(path.name for path in photos.iterdir())
    states: dict[str, RowStatus] = {"hostile": "failed", "killer": "poison"}
    return [
        _row(photos, number, name, states[name.split("_")[0]])
        if "_" in name
        else _row(photos, number, name, "restored", name.encode())
        for number, name in enumerate(names)
    ]


def _faults(photos: Path, rows: list[Row]) -> list[str]:
    output = photos.parent / "output"
    shutil.rmtree(output, ignore_errors=True)
    shard = shard_folder(output / "run", 0)
    shard.mkdir(parents=True)
    for row in rows:
        if row.output:
            (shard / row.output).write_bytes(Path(row.uri).name.encode())
    finish(shard, rows)
    return _faults_in(output, photos)


def _faults_in(output: Path, photos: Path) -> list[str]:
    expected = {
        path.name: hashlib.sha256(path.name.encode()).hexdigest() for path in photos.iterdir()
    }
    return faults_of(output, photos, expected)


def test_the_photos_are_what_their_names_say(photos: Path) -> None:
    names = sorted(path.name for path in photos.iterdir())
    hostile = [f"hostile_{number}.png" for number in range(4)]
    assert names == ["1.png", "2.png", "3.png", "4.png", *hostile, "killer_0.png"]
    for name in ("1.png", "2.png", "killer_0.png"):
        assert Image.open(photos / name).size == (64, 64)
    for name in hostile:
        with pytest.raises(InputError):
            read_rgb(photos / name)


def test_a_run_without_a_fault_has_none(photos: Path, rows: list[Row]) -> None:
    assert _faults(photos, rows) == []


def test_each_fault_is_found(photos: Path, rows: list[Row]) -> None:
    good = next(row for row in rows if row.status == "restored")
    name = Path(good.uri).name
    others = [row for row in rows if row is not good]
    assert f"missing ['{name}']" in _faults(photos, others)[0]
    twice = dataclasses.replace(good, id=100, output="100.png")
    assert f"twice ['{name}']" in _faults(photos, [*rows, twice])[0]
    failed = dataclasses.replace(good, status="failed", output="", error="no memory")
    assert _faults(photos, [*others, failed]) == [f"{name} is failed: no memory"]
    other_bytes = dataclasses.replace(good, sha256="0" * 64)
    assert _faults(photos, [*others, other_bytes]) == [f"{name} has other bytes"]


@pytest.mark.parametrize("left", [".12345678-9abcdef0.partial", ".fetched_7", "rows.jsonl"])
def test_what_a_kill_leaves_behind_is_found(photos: Path, rows: list[Row], left: str) -> None:
    assert _faults(photos, rows) == []
    output = photos.parent / "output"
    (output / "run" / "000000" / left).touch()
    assert _faults_in(output, photos) == [f"left behind: ['{left}']"]


def test_a_shard_that_is_not_marked_as_done_is_found(photos: Path, rows: list[Row]) -> None:
    assert _faults(photos, rows) == []
    output = photos.parent / "output"
    (output / "run" / "000000" / "_SUCCESS").unlink()
    assert _faults_in(output, photos) == ["not marked as done: ['000000']"]


def test_what_a_run_wrote_is_kept_where_it_has_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "soak"
    folder.mkdir()
    assert report_faults(["a.png has other bytes"], folder) == 1
    assert capsys.readouterr().out == f"FAULT: a.png has other bytes\nsee {folder}\n"
    assert folder.exists()
    assert report_faults([], folder) == 0
    assert not folder.exists()


def test_only_processes_of_the_batch_that_restore_are_killed(tmp_path: Path) -> None:
    mark = f"SOAK_BATCH={tmp_path}"
    command = [sys.executable, "-c", "input()", "gfpgan_core.batch.child"]
    ours = os.environ | {"SOAK_BATCH": str(tmp_path)}
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, env=ours) as marked,
        subprocess.Popen(command, stdin=subprocess.PIPE) as other,
    ):
        killer = Killer(0.01, mark)
        assert [found for found in killer.processes() if found[0] == other.pid] == []
        deadline = time.monotonic() + HANG_S
        while (marked.pid, "restores") not in killer.processes():
            assert time.monotonic() < deadline
        killer.start()
        assert marked.wait(timeout=HANG_S) == -9
        killer.done.set()
        killer.join()
        assert other.poll() is None
        other.kill()
    assert killer.kills >= 1


def test_a_killer_ends_each_process_that_opens_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = [sys.executable, "-c", "open('killer_0.png')"]
    run_batch([*program, "--output", str(tmp_path / "output")], tmp_path, 8, HANG_S)
    assert capsys.readouterr().out.count("ended with status -9") == 4  # as often as it is started
