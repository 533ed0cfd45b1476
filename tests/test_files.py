"""Files that are written whole or not at all, with names and permissions as asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from faults import full_disk, need_permissions, obeying_permissions, run_code

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.files import remove_partial_files_of, whole_file

_SAVE = """
import sys
from pathlib import Path
from gfpgan_core.files import whole_file
try:
    with whole_file(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(b"new" * 100_000)
except OSError as error:
    sys.exit(str(error))
"""


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("ö" * 125 + "a.png")  # ö takes two bytes
    assert len(os.fsencode(path.name)) == 255
    images.write(path, b"data")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"data"


def test_an_error_within_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), whole_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


def test_a_file_gets_the_permissions_of_new_files(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    with whole_file(tmp_path / "a") as temporary:
        temporary.write_bytes(b"data")
        temporary.chmod(0o600)  # as some writers do
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_folder_in_the_way_is_an_input_error_that_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(InputError, match=r"a\.png can't be written: Is a directory"):
        images.write(tmp_path / "a.png", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    result = run_code(_SAVE, path, before=full_disk(100_000))
    assert "File too large" in result.stderr and "Traceback" not in result.stderr
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_read_only_folder_leaves_the_old_file(tmp_path: Path) -> None:
    need_permissions(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"old")
    folder.chmod(0o555)
    result = run_code(_SAVE, folder / "a", before=obeying_permissions)
    folder.chmod(0o755)
    assert "Permission denied" in result.stderr and "Traceback" not in result.stderr
    assert (folder / "a").read_bytes() == b"old"


def test_a_kill_leaves_the_old_file_and_the_remains_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    hold = "import pathlib, time\ndef hold(*_):\n  print('held', flush=True)\n  time.sleep(9999)\n"
    command = [sys.executable, "-c", f"{hold}pathlib.Path.replace = hold\n{_SAVE}", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    (tmp_path / ".other.partial").touch()
    remove_partial_files_of(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".other.partial", "a"]


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with pytest.raises(FileExistsError), whole_file(path, replace=False) as temporary:
        temporary.write_bytes(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs" and [p.name for p in tmp_path.iterdir()] == ["a"]
