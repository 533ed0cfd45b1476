"""`gfpgan batch`: every photo of a manifest exactly once, whatever dies on the way."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from batch_photos import make_manifest, make_photos, no_networks, rows_of, save_photo, settings
from conftest import ROOT
from PIL import Image

from gfpgan_core.__main__ import main
from gfpgan_core.batch import manifest as manifests
from gfpgan_core.batch.rows import Row, past_of, shard_folder
from gfpgan_core.batch.settings import Settings
from gfpgan_core.batch.status import Status, status_of
from gfpgan_core.batch.worker import Job, Worker
from gfpgan_core.config import RestoreOptions
from gfpgan_core.errors import InputError
from gfpgan_core.pipeline import FaceRestorer

__all__ = ["no_networks", "settings"]

pytest.importorskip("pyarrow", reason="batches need pyarrow")

# Ends the process that opens such a file, as a decoder's crash does.
KILLER = """
import os, signal, sys
def kill(event, arguments):
    if event == "open" and "killer" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
"""

# Ends the first two processes that open such a file.
UNLUCKY = """
import os, signal, sys
def kill(event, arguments):
    if event == "open" and "unlucky" in str(arguments[0]) and len(os.listdir(KILLS)) < 2:
        os.mkdir(f"{KILLS}/{os.getpid()}")
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
"""

# Ends the first process that is about to finish a result, once.
INTERRUPTER = """
import os, signal
flush = os.fsync
def interrupt(handle):
    path = os.readlink(f"/proc/self/fd/{handle}")
    if path.endswith(".partial") and not os.path.exists(MARK):
        os.mkdir(MARK)
        os.kill(os.getpid(), signal.SIGKILL)
    flush(handle)
os.fsync = interrupt
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", 6)


def _run(settings: Settings, manifest: Path, run: Path, *, retry_failed: bool = False) -> list[Row]:
    """Run all shards in this process's worker; return the rows that are new."""
    new: list[Row] = []
    with Worker(Job(settings, manifest, run, retry_failed)) as worker:
        for shard in range(manifests.shards_of(manifest)):
            worker.run_shard(shard, new.append)
    return new


def test_each_photo_is_restored_once_and_as_by_the_restorer(
    photos: Path, settings: Settings
) -> None:
    manifest, run = make_manifest(photos, shards=2), photos.parent / "run"
    assert len(_run(settings, manifest, run)) == 7

    rows = {Path(row.uri).name: row for row in rows_of(run)}
    assert len(rows) == 7
    broken = rows.pop("broken.jpg")
    assert (broken.status, broken.output, broken.attempts) == ("failed", "", 1)
    assert "broken.jpg is no image" in broken.error
    restorer = FaceRestorer.from_file(Path(settings.weights))
    for name, row in rows.items():
        assert row.status == "restored"
        file = shard_folder(run, row.id % 2) / f"{row.id}.png"
        assert row.output == file.name
        wanted = restorer.restore(photos / name, settings.options).image
        got = np.asarray(Image.open(file), np.int16)
        assert np.abs(got - wanted).max() <= 1  # this process has other threads

    assert _run(settings, manifest, run) == []  # all is done
    assert [row.uri for row in _run(settings, manifest, run, retry_failed=True)] == [broken.uri]


@pytest.mark.usefixtures("no_networks")
def test_changed_and_added_photos_are_done_and_no_others(photos: Path, settings: Settings) -> None:
    run = photos.parent / "run"
    _run(settings, make_manifest(photos, shards=2), run)
    save_photo(photos / "new.png", 77)
    save_photo(photos / "0.png", 78)
    os.utime(photos / "0.png", (1, 1))

    new = _run(settings, make_manifest(photos, shards=2), run)

    assert sorted(Path(row.uri).name for row in new) == ["0.png", "new.png"]
    assert len(rows_of(run)) == 8
    (photos / "0.png").unlink()
    assert _run(settings, make_manifest(photos, shards=2), run) == []
    assert len(rows_of(run)) == 8  # what has been done stays said


def test_a_photo_that_kills_its_process_is_poison_and_takes_no_other_along(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    save_photo(photos / "killer.png", 9)
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(KILLER)
    manifest, run = make_manifest(photos, shards=1), tmp_path / "run"
    monkeypatch.setenv("PYTHONPATH", str(hook))

    _run(settings, manifest, run)

    rows = {Path(row.uri).name: row for row in rows_of(run)}
    assert {name: row.status for name, row in rows.items()} == {
        **{f"{number}.png": "restored" for number in range(6)},
        "broken.jpg": "failed",
        "killer.png": "poison",
    }
    assert "died" in rows["killer.png"].error
    assert 3 <= rows["killer.png"].attempts <= 4  # alone it is tried three times
    status = status_of_run(run, manifest)
    assert [Path(row.uri).name for row in status.poison] == ["killer.png"]


def test_a_photo_that_was_in_two_processes_that_were_killed_is_no_poison(
    tmp_path: Path, no_networks: Path, settings: Settings
) -> None:
    kills, photos = tmp_path / "kills", tmp_path / "photos"
    for folder in (kills, photos):
        folder.mkdir()
    with no_networks.open("a") as code:
        code.write(f"KILLS = {str(kills)!r}\n{UNLUCKY}")
    save_photo(photos / "unlucky.png", 9)
    manifest, run = make_manifest(photos, shards=1), tmp_path / "run"

    _run(settings, manifest, run)

    (row,) = rows_of(run)
    assert (row.status, row.attempts) == ("restored", 3)


def test_a_kill_in_the_middle_of_a_file_leaves_no_part_of_it(
    photos: Path, tmp_path: Path, no_networks: Path, settings: Settings
) -> None:
    mark = tmp_path / "killed"
    with no_networks.open("a") as code:
        code.write(f"MARK = {str(mark)!r}\n{INTERRUPTER}")
    manifest, run = make_manifest(photos, shards=1), tmp_path / "run"

    _run(settings, manifest, run)

    assert mark.exists()
    rows = rows_of(run)
    assert [row.status for row in rows].count("restored") == 6
    assert {row.attempts for row in rows} == {1, 2}
    assert not list(run.rglob("*.partial"))


def status_of_run(run: Path, manifest: Path) -> Status:
    (run / "settings.json").write_text(f'{{"manifest": "{manifest}"}}')
    return status_of(run)


def test_killed_again_and_again_a_run_loses_and_repeats_nothing(photos: Path) -> None:
    for number in range(6, 40):
        save_photo(photos / f"{number}.png", number)
    manifest, output = make_manifest(photos, shards=2), photos.parent / "out"
    command = [sys.executable, "-m", "gfpgan_core", "batch", "run", str(manifest)]
    command += ["--version", "compact", "--aligned", "--output", str(output), "--workers", "1"]

    for _ in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        before = len(list(output.glob("*/*/*.png")))
        deadline = time.monotonic() + 600
        while len(list(output.glob("*/*/*.png"))) < before + 3 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0

    (run,) = output.iterdir()
    rows = rows_of(run)
    assert sorted(Path(row.uri).name for row in rows) == sorted(
        path.name for path in photos.iterdir()
    )
    assert {row.status for row in rows if not row.uri.endswith("broken.jpg")} == {"restored"}
    assert sum(row.attempts for row in rows) <= len(rows) + 3 * 6  # those in flight, three times
    assert not list(run.rglob("*.partial"))


def test_a_line_that_was_cut_off_is_not_taken_for_a_row(tmp_path: Path) -> None:
    row = '{"id": 5, "uri": "a", "etag": "", "status": "restored"}'
    begun = '{"begun": 7, "alone": false}'
    (tmp_path / "rows.jsonl").write_text(f"{row}\n{begun}\n{begun}\n[1]\n{row[:-9]}")

    past = past_of(tmp_path)

    assert list(past.rows) == [5]
    assert past.begun == {7: 2}
    assert past.died_alone == {7: 0}


@pytest.mark.usefixtures("no_networks")
def test_two_workers_do_not_share_a_shard(photos: Path, settings: Settings) -> None:
    manifest, run = make_manifest(photos, shards=1), photos.parent / "run"
    job = Job(settings, manifest, run)
    refused: list[str] = []

    def second(row: Row) -> None:
        def try_it() -> None:
            with pytest.raises(InputError) as error, Worker(job) as other:
                other.run_shard(0)
            refused.append(str(error.value))

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()

    with Worker(job) as worker:
        worker.run_shard(0, second)
    assert len(refused) == 7
    assert "another process works in" in refused[0]


@pytest.mark.usefixtures("no_networks")
def test_results_that_cannot_be_written_stop_the_run_and_lose_nothing(
    photos: Path, settings: Settings
) -> None:
    manifest, run = make_manifest(photos, shards=1), photos.parent / "run"
    taken = shard_folder(run, 0)
    ids = [item.id for item in manifests.items_in(manifest, 0)]
    for photo in ids:
        (taken / f"{photo}.png").mkdir(parents=True)  # a folder has the result's name

    with pytest.raises(InputError, match=r"can't be written.*goes on from here"):
        _run(settings, manifest, run)

    assert not (taken / "_SUCCESS").exists()
    for photo in ids:
        (taken / f"{photo}.png").rmdir()
    _run(settings, manifest, run)
    assert len(rows_of(run)) == 7


def test_settings_survive_json_and_name_the_folder() -> None:
    options = RestoreOptions(faces=(1, 3), boxes=((0, 0, 5, 5),), blend=0.5)
    settings = Settings(options=options)
    assert Settings.from_json(settings.to_json()) == settings
    assert settings.key() == Settings(options=options, device="cpu", threads=8).key()
    assert settings.key() != Settings(options=RestoreOptions()).key()
    with pytest.raises(InputError, match="version is 'v9'; allowed: "):
        Settings(version="v9").key()


def test_options_that_a_later_version_adds_do_not_name_another_folder() -> None:
    """Millions of photos would be restored again."""
    options = [("smoothing", float, 0.5)]
    later_options = dataclasses.make_dataclass("O", options, bases=(RestoreOptions,), frozen=True)
    fields = [("options", RestoreOptions, dataclasses.field(default_factory=later_options))]
    later = dataclasses.make_dataclass("S", fields, bases=(Settings,), frozen=True)
    key = Settings(options=RestoreOptions(blend=0.5)).key()
    assert later(options=later_options(blend=0.5)).key() == key
    assert later(options=later_options(blend=0.5, smoothing=0.7)).key() != key
    assert later(options=later_options(blend=0.6)).key() != key


@pytest.mark.parametrize("share", ["1", "2/2", "0/0", "-1/3", "a/b"])
def test_an_impossible_share_is_refused(
    share: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make_manifest(photos, shards=2)
    assert main(["batch", "run", str(manifest), f"--shard={share}", "--version", "compact"]) == 1
    assert f"--shard is {share}; allowed: i/n" in capsys.readouterr().err
