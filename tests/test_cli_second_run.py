"""The second run works as the first did: it knows the results, and goes on where one stopped."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import Cli, FakeRestorer, cli, contents, out, photo, visible
from conftest import ROOT

from gfpgan_core import images
from gfpgan_core.cli import restore
from gfpgan_core.cli.record import weights_recorded
from gfpgan_core.config import RestoreOptions
from gfpgan_core.result import Restoration

__all__ = ["cli", "out"]


def test_the_second_run_of_the_same_command_changes_nothing(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    album = photo(tmp_path / "album" / "a.jpg", 1).parent
    photo(album / "may" / "a.jpg", 2)
    assert cli(album, "--output", out, "--save-faces") == 0
    before = contents(out)
    assert cli(album, "--output", out, "--save-faces") == 0
    assert contents(out) == before


def test_a_folder_restored_into_itself_twice_keeps_to_its_photos(cli: Cli, tmp_path: Path) -> None:
    album = tmp_path / "album"
    photo(album / "a.jpg", 1)
    photo(album / "may" / "b.png", 2)
    for _ in range(2):
        assert cli(album, "--output", album, "--save-faces") == 0
        assert [name for name in visible(album) if "faces" not in name] == [
            *("a.jpg", "a_2.jpg"),
            *("may/b.png", "may/b_2.png"),
        ]
    assert cli.closing == "2 restored, 0 failed, 6 passed over: 6 earlier results"


def test_results_of_one_output_folder_are_no_photos_for_another(cli: Cli, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    assert cli(tmp_path, "--output", tmp_path / "one") == 0
    assert cli(tmp_path, "--output", tmp_path / "two") == 0
    assert visible(tmp_path) == ["a.jpg", "one/a.jpg", "two/a.jpg"]


def test_a_result_that_was_edited_is_a_photo_again(cli: Cli, tmp_path: Path) -> None:
    photo(tmp_path / "a.jpg")
    assert cli(tmp_path, "--output", tmp_path) == 0
    photo(tmp_path / "a_2.jpg", 5, side_px=40)
    assert cli(tmp_path, "--output", tmp_path) == 0
    assert "a_2.jpg: 1 face" in cli.out


def test_resume_restores_only_what_is_missing(cli: Cli, tmp_path: Path, out: Path) -> None:
    album = photo(tmp_path / "album" / "a.png", 1).parent
    photo(album / "b.png", 2)
    assert cli(album, "--output", out) == 0
    (out / "b.png").unlink()
    photo(album / "c.png", 3)
    photo(album / "may" / "a.png", 1)  # the same photo, elsewhere
    assert cli(album, "--output", out, "--resume") == 0
    assert cli.closing == "3 restored, 0 failed, 1 passed over: 1 done already"
    assert visible(out) == ["a.png", "b.png", "c.png", "may/a.png"]
    assert cli(album, "--output", out, "--resume") == 0
    assert cli.closing == "0 restored, 0 failed, 4 passed over: 4 done already"


def test_resume_does_not_take_other_results_for_these(cli: Cli, tmp_path: Path, out: Path) -> None:
    """Of other options, or of another photo of the same name."""
    first, second = (photo(tmp_path / name / "a.png", ord(name)) for name in "xy")
    assert cli(first, "--output", out) == 0
    assert cli(second, "--output", out, "--resume") == 0
    assert "1 restored" in cli.closing
    assert cli(first, "--output", out, "--resume", "--blend", 0.5) == 0
    assert "1 restored" in cli.closing


def test_a_record_of_a_version_that_had_fewer_options_is_honored(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    """It was made as the options that it doesn't name are made at their defaults."""
    path = photo(tmp_path / "a.png", 1)
    command = (path, "--output", out, "--blend", 0.5)
    assert cli(*command) == 0
    _rewrite_options(out, lambda options: options.pop("deinterlace"))
    assert cli(*command, "--resume") == 0
    assert cli.closing == "0 restored, 0 failed, 1 passed over: 1 done already"
    assert cli(*command, "--resume", "--deinterlace") == 0
    assert cli.closing == "1 restored, 0 failed, 0 passed over"


def test_a_record_with_an_option_of_a_later_version_is_not_honored(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    """Nobody knows here what it did to the photo."""
    path = photo(tmp_path / "a.png", 1)
    assert cli(path, "--output", out) == 0
    _rewrite_options(out, lambda options: options.update(smoothing=0.7))
    assert cli(path, "--output", out, "--resume") == 0
    assert cli.closing == "1 restored, 0 failed, 0 passed over"


def test_results_of_the_shipped_weights_before_are_not_taken_for_todays(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    path = photo(tmp_path / "a.png", 1)
    command = (path, "--output", out, "--version", "compact", "--resume")
    assert cli(*command) == 0
    assert cli(*command) == 0
    assert cli.closing == "0 restored, 0 failed, 1 passed over: 1 done already"
    # Of other weights; and of a version whose records don't tell which they were.
    for change in (
        lambda options: options.update(weights_sha256="0" * 64),
        lambda options: options.pop("weights_sha256", None),
    ):
        _rewrite_options(out, change)
        assert cli(*command) == 0
        assert cli.closing == "1 restored, 0 failed, 0 passed over"


def _record_in(folder: Path) -> Path:
    """Return a folder's record, which is its one hidden file."""
    (record,) = (path for path in folder.iterdir() if path.name.startswith("."))
    return record


def _rewrite_options(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the options of each entry in a folder's record."""
    record = _record_in(folder)
    entries = [json.loads(line) for line in record.read_text().splitlines() if line]
    for entry in entries:
        change(entry["options"])
    record.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))


def test_each_of_two_equal_photos_gets_its_result_when_resumed(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    first, second = (photo(tmp_path / name / "a.png", 1) for name in "xy")
    assert cli(first, "--output", out) == 0
    assert cli(first, second, "--output", out, "--resume") == 0
    assert cli.closing == "1 restored, 0 failed, 1 passed over: 1 done already"


def test_a_record_that_was_cut_off_or_forged_does_no_harm(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    path = photo(tmp_path / "a.png", 1)
    assert cli(path, "--output", out) == 0
    record = _record_in(out)
    whole = record.read_text()
    forged = '[1]\n{"result": 3}\n{"result": "a.png", "bytes": "x"}\n'
    record.write_text(forged + '{"result": "a.png", "bytes": 9, "options": 3}\n' + whole[:-20])
    assert cli(path, "--output", out, "--resume") == 0
    assert "1 restored" in cli.closing and visible(out) == ["a.png"]
    assert cli(path, "--output", out, "--resume") == 0
    assert "1 done already" in cli.closing


def test_a_record_that_is_a_link_is_not_followed(cli: Cli, tmp_path: Path, out: Path) -> None:
    path = photo(tmp_path / "a.png", 1)
    victim = tmp_path / "profile"
    victim.write_text("mine")
    assert cli(path, "--output", out) == 0
    record = _record_in(out)
    record.unlink()
    record.symlink_to(victim)
    assert cli(path, "--output", out, "--overwrite") == 1
    assert victim.read_text() == "mine"


def test_a_photo_that_changes_while_it_is_restored_is_restored_again_by_resume(
    cli: Cli, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result is that of the photo before: the record must not say that it is the new one's."""
    original = photo(tmp_path / "a.png", 1)

    class Changing(FakeRestorer):
        def restore_many(
            self, photos: Iterable[Path], options: RestoreOptions
        ) -> Iterator[Restoration | Exception]:
            for result in super().restore_many(photos, options):
                photo(original, 2, side_px=17)
                yield result

    with monkeypatch.context() as patch:
        patch.setattr(restore, "load_restorer", lambda _: Changing())
        assert cli(original, "--output", out) == 0
    assert cli(original, "--output", out, "--resume", "--overwrite") == 0
    assert cli.closing == "1 restored, 0 failed, 0 passed over"
    assert images.read_rgb(out / "a.png").shape == (17, 17, 3)
    assert cli(original, "--output", out, "--resume") == 0
    assert cli.closing == "0 restored, 0 failed, 1 passed over: 1 done already"


def test_weights_are_told_apart_where_the_versions_name_does_not(
    tiny_weights: Path,
) -> None:
    """Of a video, segments of older `compact` weights were gone on with."""
    shipped = ROOT / "gfpgan_core" / "shipped" / "compact.safetensors"
    for name, file, told in (
        ("v1.4", None, {}),
        ("compact", None, {"weights_sha256": hashlib.sha256(shipped.read_bytes()).hexdigest()}),
        ("v1.4", tiny_weights, {"version": hashlib.sha256(tiny_weights.read_bytes()).hexdigest()}),
    ):
        assert weights_recorded(argparse.Namespace(version=name, weights=file)) == told
