"""`gfpgan batch` on a machine that fails it: full disks, damaged files, and what a reader sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from batch_photos import (
    make_manifest,
    make_photos,
    no_networks,
    rows_of,
    run_command,
    save_photo,
    settings,
)
from faults import full_disk, need_permissions, obeying_permissions, run_code, run_python
from PIL import Image

from gfpgan_core.__main__ import main
from gfpgan_core.batch import manifest as manifests
from gfpgan_core.batch.rows import FETCHED_PREFIX, Row, locked, shard_folder
from gfpgan_core.batch.settings import Settings
from gfpgan_core.batch.status import status_of
from gfpgan_core.batch.worker import Job, StoppedError, Worker
from gfpgan_core.errors import InputError

__all__ = ["no_networks", "settings"]

pytest.importorskip("pyarrow", reason="batches need pyarrow")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", 3)


def _run(settings: Settings, manifest: Path, run: Path) -> list[Row]:
    new: list[Row] = []
    with Worker(Job(settings, manifest, run)) as worker:
        worker.run_shard(0, new.append)
    return new


def _names(rows: list[Row]) -> list[str]:
    return sorted(row.uri.rpartition("/")[2] for row in rows)


@pytest.mark.usefixtures("no_networks")
def test_a_disk_that_fills_while_photos_are_fetched_stops_the_run(
    tmp_path: Path, settings: Settings
) -> None:
    """A photo that no room was left for isn't a bad photo: it has no row."""
    noise = np.random.default_rng(1).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    names = [f"{number}.png" for number in range(3)]
    for name in names:
        Image.fromarray(noise).save(tmp_path / name)  # 270 KB
    addresses = tmp_path / "list.txt"
    addresses.write_text("".join(f"file://{tmp_path}/{name}\n" for name in names))
    manifest, output = make_manifest(addresses, shards=1), tmp_path / "out"
    command = ["-m", "gfpgan_core", *run_command(settings, manifest, output)]

    stopped = run_python(*command, before=full_disk(200_000))

    assert stopped.returncode == 1, stopped.stderr
    assert "can't be written" in stopped.stderr and "goes on from here" in stopped.stderr
    assert "FAILED" not in stopped.stderr and "Traceback" not in stopped.stderr
    (run,) = output.iterdir()
    assert rows_of(run) == []
    assert run_python(*command).returncode == 0
    assert _names(rows_of(run)) == names
    assert not list(run.rglob(".fetched_*"))


def test_a_shards_folder_that_turns_read_only_is_swept_by_the_next_run(tmp_path: Path) -> None:
    need_permissions(tmp_path)
    code = (
        "import sys, pathlib\nfrom gfpgan_core.batch.rows import FETCHED_PREFIX, locked\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with locked(folder):\n"
        "    (folder / f'{FETCHED_PREFIX}1').write_bytes(b'a photo')\n"
        "    folder.chmod(0o555)\n"
    )
    folder = tmp_path / "000000"
    done = run_code(code, folder, before=obeying_permissions)
    assert done.returncode == 0, done.stderr
    folder.chmod(0o755)
    assert (folder / f"{FETCHED_PREFIX}1").exists()
    with locked(folder):
        assert not list(folder.glob(f"{FETCHED_PREFIX}*"))


@pytest.mark.usefixtures("no_networks")
def test_a_journal_that_finds_no_room_stops_the_run_with_a_clear_error(
    photos: Path, settings: Settings
) -> None:
    manifest, output = make_manifest(photos, shards=1), photos.parent / "out"
    command = ["-m", "gfpgan_core", *run_command(settings, manifest, output)]
    first = run_python(*command)
    assert first.returncode == 0, first.stderr
    (run,) = output.iterdir()
    (shard_folder(run, 0) / "rows.jsonl").write_text("\n" * 200_000)
    save_photo(photos / "new.png", 50)
    make_manifest(photos, shards=1)

    stopped = run_python(*command, before=full_disk(200_000))

    assert stopped.returncode == 1
    assert "rows.jsonl can't be written" in stopped.stderr and "Traceback" not in stopped.stderr
    assert run_python(*command).returncode == 0
    assert len(rows_of(run)) == 5


@pytest.mark.usefixtures("no_networks")
def test_a_shard_that_is_done_again_is_not_called_done_meanwhile(
    photos: Path, settings: Settings
) -> None:
    run = photos.parent / "run"
    success = shard_folder(run, 0) / "_SUCCESS"
    _run(settings, make_manifest(photos, shards=1), run)
    assert success.exists()
    save_photo(photos / "new.png", 77)
    seen: list[bool] = []

    with Worker(Job(settings, make_manifest(photos, shards=1), run)) as worker:
        worker.run_shard(0, lambda row: seen.append(success.exists()))

    assert seen == [False]
    assert success.exists()


@pytest.mark.usefixtures("no_networks")
def test_rows_of_photos_that_left_the_manifest_stay_whatever_else_is_done(
    photos: Path, settings: Settings
) -> None:
    run = photos.parent / "run"
    _run(settings, make_manifest(photos, shards=1), run)
    (photos / "0.png").unlink()
    save_photo(photos / "new.png", 77)
    manifest = make_manifest(photos, shards=1)

    assert _names(_run(settings, manifest, run)) == ["new.png"]

    assert _names(rows_of(run)) == ["0.png", "1.png", "2.png", "broken.jpg", "new.png"]
    (run / "settings.json").write_text(f'{{"manifest": "{manifest}"}}')
    status = status_of(run)
    assert (status.total, status.done, status.not_named) == (4, 4, 1)
    assert "1 more photos that this manifest does not name" in status.lines()


@pytest.mark.usefixtures("no_networks")
def test_the_result_of_a_photo_that_is_none_any_more_goes(photos: Path, settings: Settings) -> None:
    run = photos.parent / "run"
    _run(settings, make_manifest(photos, shards=1), run)
    (photos / "0.png").write_bytes(b"no picture any more")

    (row,) = _run(settings, make_manifest(photos, shards=1), run)

    assert row.status == "failed"
    kept = {path.name for path in shard_folder(run, 0).glob("*.png")}
    assert kept == {row.output for row in rows_of(run) if row.status == "restored"}
    assert len(kept) == 2


@pytest.mark.usefixtures("no_networks")
def test_damaged_rows_and_manifests_are_named(photos: Path, settings: Settings) -> None:
    manifest, run = make_manifest(photos, shards=1), photos.parent / "run"
    _run(settings, manifest, run)
    rows = shard_folder(run, 0) / "rows.parquet"
    for damaged in (b"", b"PAR1 and nothing", rows.read_bytes()[:-40]):
        rows.write_bytes(damaged)
        with pytest.raises(InputError, match=r"rows.parquet can't be read as a shard's rows"):
            _run(settings, manifest, run)
    content = manifest.read_bytes()
    # The middle: its description at the end can still be read.
    manifest.write_bytes(content[:4] + bytes(len(content) // 2) + content[len(content) // 2 + 4 :])
    with pytest.raises(InputError, match=r"manifest.parquet can't be read as a manifest"):
        manifests.items_in(manifest, 0)


def test_the_process_that_watches_does_not_hold_torch(photos: Path, settings: Settings) -> None:
    """It asked for a GPU, which took 0.7 GiB for as long as the batch runs."""
    code = (
        "import sys\nfrom gfpgan_core.__main__ import main\n"
        "assert main(sys.argv[1:]) == 0\nprint('torch' in sys.modules)\n"
    )
    manifest = make_manifest(photos, shards=1)
    command = run_command(settings, manifest, photos.parent / "out")[:-2]  # of any workers
    done = run_code(code, *command)
    assert done.stdout.splitlines()[-1] == "False", done.stderr


def test_a_gpu_gets_one_worker_and_a_processor_one_for_each_core(
    tmp_path: Path, settings: Settings
) -> None:
    """The device is what a process of its own finds: here one whose torch has a GPU."""
    package = tmp_path / "hook" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "class cuda:\n    is_available = staticmethod(lambda: 1)\n"
    )
    code = (
        "import sys\nfrom gfpgan_core.batch.settings import Settings\n"
        "from gfpgan_core.cli import batch\n"
        "batch.allowed_cores = lambda: 6\n"
        "asked = Settings(), Settings(device='cpu', threads=2)\n"
        "print(*map(batch.worker_count, asked))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(package.parent))
        assert run_code(code).stdout.split() == ["1", "3"]
    assert run_code(code).stdout.split() == ["6", "3"]


@pytest.mark.usefixtures("no_networks")
def test_photos_of_any_name_are_listed_by_addresses_that_lead_to_them(
    tmp_path: Path, settings: Settings
) -> None:
    names = [
        "a b.png",
        "50%25.png",
        "50%.png",
        "q?x.png",
        "h#x.png",
        "\u00fc[1].png",
        "k=1;a+b&c.png",
    ]
    (tmp_path / "al bum").mkdir()
    for number, name in enumerate(names):
        save_photo(tmp_path / "al bum" / name, number)
    address, manifest = f"file://{tmp_path}/al%20bum", tmp_path / "manifest.parquet"
    assert main(["batch", "manifest", address, "--output", str(manifest), "--shards", "1"]) == 0

    rows = _run(settings, manifest, tmp_path / "run")

    assert {row.uri: row.error for row in rows if row.status != "restored"} == {}
    assert len(rows) == len(names)
    uris = {row.uri.rpartition("/")[2] for row in rows}
    assert {"a%20b.png", "50%2525.png", "q%3Fx.png", "k=1;a+b&c.png"} <= uris


def test_a_worker_that_was_stopped_starts_no_process(
    photos: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """Ctrl-C while a shard's list was read: the whole shard was restored before the run ended."""
    manifest = make_manifest(photos, shards=1)
    started: list[Settings] = []
    monkeypatch.setattr(
        "gfpgan_core.batch.worker.RestoringProcess", lambda settings, _: started.append(settings)
    )
    worker = Worker(Job(settings, manifest, photos.parent / "run"))
    worker.stop()
    with pytest.raises(StoppedError):
        worker.run_shard(0)
    assert started == []
