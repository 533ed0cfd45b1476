"""Folders and names: nothing goes missing without a word, nothing is replaced, and the second run
works as the first did."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cli_runs import Cli, cli, contents, out, photo, visible
from PIL import Image

from gfpgan_core import images

__all__ = ["cli", "out"]


def test_a_folder_without_a_photo_does_not_stop_the_others(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    photo(tmp_path / "1950" / "a.jpg")
    photo(tmp_path / "1970" / "b.jpg")
    film = tmp_path / "1960" / "film.mp4"
    film.parent.mkdir()
    film.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(50))
    albums = [tmp_path / year for year in ("1950", "1960", "1970")]
    assert cli(*albums, "--output", out) == 0
    assert visible(out) == ["a.jpg", "b.jpg"]
    assert cli.closing == "2 restored, 0 failed, 1 passed over: 1 not an image"


def test_the_content_tells_a_photo_and_not_the_suffix(cli: Cli, tmp_path: Path, out: Path) -> None:
    album = tmp_path / "album"
    for name in ("a.jfif", "b.JPG", "c.jpe", "d.mpo", "e", "f.dat"):
        photo(album / name, format="JPEG")
    photo(album / "g.jpg", format="PNG")
    (album / "notes.txt").write_text("BMW and other things that begin as bitmaps do")
    assert cli(album, "--output", out) == 0
    assert visible(out) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.png"]
    assert cli.closing == "7 restored, 0 failed, 1 passed over: 1 not an image"


def test_a_file_called_a_photo_that_is_none_fails_by_name(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    album = photo(tmp_path / "album" / "a.jpg").parent
    (album / "b.jpg").write_text("<!DOCTYPE html>")
    (album / "c.PNG").write_bytes(b"")
    (album / "d.jxl").write_bytes(b"\xff\x0a" + bytes(50))
    (album / "e.nef").write_bytes(b"II*\0" + bytes(50))
    assert cli(album, "--output", out) == 1
    for text in (
        "b.jpg is a web page, no image",
        "c.PNG is empty",
        "d.jxl is JPEG XL, which is not read",
    ):
        assert text in cli.err
    assert "e.nef: FAILED: e.nef is camera raw, which is not read" in cli.err
    assert cli.closing == "1 restored, 4 failed, 0 passed over"


def test_hidden_files_and_what_systems_leave_are_passed_over(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    album = tmp_path / "album"
    photo(album / "photo.jpg")
    (album / "._photo.jpg").write_bytes(bytes.fromhex("0005160700020000") + bytes(90))
    photo(album / ".trash" / "old.jpg")
    photo(album / "@eaDir" / "thumbnail.jpg")
    assert cli(album, "--output", out) == 0
    assert visible(out) == ["photo.jpg"]
    assert cli.closing == "1 restored, 0 failed, 3 passed over: 3 hidden"


def test_folders_of_a_folder_are_mirrored(cli: Cli, tmp_path: Path, out: Path) -> None:
    album = tmp_path / "album"
    for number, name in enumerate(("top.jpg", "1950/a.jpg", "1960/b.jpg", "1960/may/b.png")):
        photo(album / name, number)
    assert cli(album, "--output", out) == 0
    assert visible(out) == ["1950/a.jpg", "1960/b.jpg", "1960/may/b.png", "top.jpg"]


def test_links_to_folders_are_said_and_links_to_photos_followed(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    album = photo(tmp_path / "album" / "a.jpg").parent
    elsewhere = photo(tmp_path / "elsewhere" / "b.jpg", 1)
    (album / "b.jpg").symlink_to(elsewhere)
    (album / "all").symlink_to(album)
    (album / "loop.jpg").symlink_to("loop.jpg")
    (album / "gone.jpg").symlink_to("nowhere.jpg")
    assert cli(album, "--output", out) == 1
    assert visible(out) == ["a.jpg", "b.jpg"]
    assert "loop.jpg: FAILED: can't be read: Too many levels" in cli.err
    assert "gone.jpg: FAILED: can't be read: No such file" in cli.err
    assert cli.closing == "2 restored, 2 failed, 1 passed over: 1 linked folder"


def test_the_closing_line_counts_everything(cli: Cli, tmp_path: Path, out: Path) -> None:
    album = tmp_path / "album"
    for number in range(34):
        photo(album / f"{number:02}.png", number)
    for name in ("film.mp4", "notes.txt", "list"):
        (album / name).write_text("no photo")
    for name in ("x.jpg", "y.jpg"):
        (album / name).write_text("no photo")
    for name in (".DS_Store", "._x.jpg"):
        (album / name).write_bytes(b"")
    assert cli(album, "--output", out) == 1
    assert cli.closing == "34 restored, 2 failed, 5 passed over: 3 not images, 2 hidden"


def test_a_photo_that_is_given_twice_is_restored_once(cli: Cli, tmp_path: Path, out: Path) -> None:
    path = photo(tmp_path / "album" / "a.jpg")
    assert cli(path, path.parent, path, "--output", out) == 0
    assert visible(out) == ["a.jpg"]
    assert cli.closing == "1 restored, 0 failed, 2 passed over: 2 given twice"


@pytest.mark.parametrize("stem", ["p" * 251, "ä" * 125, "😀" * 62])
@pytest.mark.parametrize("file_format", ["auto", "webp"])
def test_names_as_long_as_file_systems_allow(
    cli: Cli, tmp_path: Path, out: Path, stem: str, file_format: str
) -> None:
    path = photo(tmp_path / f"{stem}.jpg")
    for folder in (out, tmp_path):  # beside itself, the result also needs a number
        arguments = ("--output", folder, "--save-faces", "--format", file_format)
        assert cli(path, *arguments) == 0, cli.err
    assert len(visible(out)) == 3
    assert path.read_bytes() == photo(tmp_path / "same.jpg").read_bytes()


def test_faces_of_photos_of_one_stem_have_their_own_files(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    album = photo(tmp_path / "album" / "anna.jpg", 1).parent
    photo(album / "anna.webp", 2)
    assert cli(album, "--output", out, "--save-faces") == 0
    faces = ["anna_1.png", "anna_1_before_after.png", "anna_2_1.png", "anna_2_1_before_after.png"]
    assert visible(out / "faces") == faces
    assert len({(out / "faces" / name).read_bytes() for name in faces}) == 4


def test_a_second_album_does_not_replace_the_first_ones_results(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    first, second = (photo(tmp_path / name / "IMG_0001.png", ord(name)) for name in "ab")
    assert cli(first.parent, "--output", out) == 0
    assert cli(second.parent, "--output", out) == 0
    assert visible(out) == ["IMG_0001.png", "IMG_0001_2.png"]
    for source, name in ((first, "IMG_0001.png"), (second, "IMG_0001_2.png")):
        assert (images.read_rgb(out / name) == images.read_rgb(source)).all()


def test_a_neighbor_of_the_results_name_is_not_replaced(cli: Cli, tmp_path: Path) -> None:
    """`a.tif` becomes a PNG, and an unrelated `a.png` lies beside it."""
    neighbor = photo(tmp_path / "a.png", 1)
    before = neighbor.read_bytes()
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.tif")
    faces = photo(tmp_path / "faces" / "a_1.png", 2)
    face_before = faces.read_bytes()
    assert cli(tmp_path / "a.tif", "--output", tmp_path, "--save-faces") == 0
    assert neighbor.read_bytes() == before and faces.read_bytes() == face_before
    assert "a_2.png" in visible(tmp_path) and "faces/a_2_1.png" in visible(tmp_path)


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
def test_an_original_is_known_by_any_of_its_names(
    cli: Cli, tmp_path: Path, overwrite: tuple[str, ...]
) -> None:
    """As on a file system that ignores case: IMG_1.jpg, the result's name, is IMG_1.JPG."""
    original = photo(tmp_path / "IMG_1.JPG")
    os.link(original, tmp_path / "IMG_1.jpg")
    before = original.read_bytes()
    assert cli(original, "--output", tmp_path, *overwrite) == 0
    assert (tmp_path / "IMG_1.jpg").samefile(original)
    assert original.read_bytes() == before
    assert "-> " + str(tmp_path / "IMG_1_2.jpg") in cli.out


def test_saved_faces_replace_no_input(cli: Cli, tmp_path: Path) -> None:
    path = photo(tmp_path / "p.png", 1)
    face = photo(tmp_path / "faces" / "p_1.png", 2)
    before = face.read_bytes()
    arguments = ("--output", tmp_path, "--save-faces", "--overwrite")
    assert cli(path, face, *arguments) == 0
    assert face.read_bytes() == before


def test_overwrite_replaces_what_is_there_and_no_photo_of_the_run(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    foreign = photo(out / "a.png", 7)
    source = photo(tmp_path / "a.png", 1)
    assert cli(source, "--output", out, "--overwrite") == 0
    assert (images.read_rgb(foreign) == images.read_rgb(source)).all()
    assert cli(source, out / "a.png", "--output", out, "--overwrite") == 0
    assert visible(out) == ["a.png", "a_2.png", "a_3.png"]


def test_output_names_a_file_for_one_photo(cli: Cli, tmp_path: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    for name, kind in (("x.png", "png"), ("new/y.WEBP", "webp"), ("z.jpeg", "jpg")):
        assert cli(path, "--output", tmp_path / name) == 0
        assert images.read(tmp_path / name).format == kind
        assert f"-> {tmp_path / name}" in cli.out
    assert visible(tmp_path) == ["a.jpg", "new/y.WEBP", "x.png", "z.jpeg"]


def test_an_output_file_that_can_not_be_meant_is_refused_before_anything_is_restored(
    cli: Cli, tmp_path: Path
) -> None:
    path, other = photo(tmp_path / "a.jpg", 1), photo(tmp_path / "b.jpg", 2)
    before = contents(tmp_path)
    for arguments, text in (
        ((path, other, "--output", tmp_path / "x.png"), "is one file, for one photo"),
        ((tmp_path, "--output", tmp_path / "x.png"), "is one file, for one photo"),
        ((path, "--output", tmp_path / "x.heic"), "results are png, jpg, webp"),
        ((path, "--output", tmp_path / "x.png", "--format", "jpg"), "don't agree"),
        ((path, "--output", other), "b.jpg exists: --overwrite replaces it"),
        ((path, "--output", path, "--overwrite"), "a.jpg exists"),
    ):
        assert cli(*arguments) == 1
        assert text in cli.err and not cli.out
    assert contents(tmp_path) == before


def test_an_output_file_is_replaced_on_request_only(cli: Cli, tmp_path: Path) -> None:
    path, target = photo(tmp_path / "a.png", 1), photo(tmp_path / "x.png", 2)
    before = target.read_bytes()
    assert cli(path, "--output", target) == 1
    assert cli(path, "--output", target, "--resume") == 1
    assert "x.png exists, and is no result of this photo" in cli.err and not cli.out
    assert target.read_bytes() == before
    assert cli(path, "--output", target, "--overwrite", "--resume") == 0
    assert (images.read_rgb(target) == images.read_rgb(path)).all()


def test_an_output_file_is_kept_on_resuming_where_it_is_this_photos(
    cli: Cli, tmp_path: Path
) -> None:
    path, other = photo(tmp_path / "a.png", 1), photo(tmp_path / "b.png", 2)
    command = ("--output", tmp_path / "x.png", "--resume")
    assert cli(path, *command) == 0
    for name in ("y.png", "x.png"):  # another result of the same photo doesn't count for this one
        assert cli(path, "--output", tmp_path / name, "--resume") == 0
    assert cli.closing == "0 restored, 0 failed, 1 passed over: 1 done already"
    for arguments in ((other, *command), (path, *command, "--blend", 0.5)):
        assert cli(*arguments) == 1
        assert "with these options and weights: --overwrite replaces it" in cli.err
    assert (images.read_rgb(tmp_path / "x.png") == images.read_rgb(path)).all()
    assert cli(other, *command, "--overwrite") == 0
    assert (images.read_rgb(tmp_path / "x.png") == images.read_rgb(other)).all()


def test_addresses_and_empty_names_say_what_to_do(cli: Cli, tmp_path: Path, out: Path) -> None:
    path = photo(tmp_path / "a.jpg")
    address = "https://example.org/photos/anna.jpg"
    assert cli(path, address, "", "--output", out) == 1
    assert f"{address}: FAILED: addresses are not read: download the photo" in cli.err
    assert "its name is empty" in cli.err
    assert cli.closing == "1 restored, 2 failed, 0 passed over"


def test_nothing_to_restore_is_a_failure_with_its_reason(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    (tmp_path / "album").mkdir()
    assert cli(tmp_path / "album", "--output", out) == 1
    assert f"there is no photo in {tmp_path / 'album'}" in cli.err
    assert cli.closing == "0 restored, 0 failed, 0 passed over"
    assert not out.exists()


def test_json_has_a_line_for_each_photo_and_the_numbers(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    path = photo(tmp_path / "album" / "a\x1b[31m.png")
    (path.parent / "b.jpg").write_text("no photo")
    (path.parent / "notes").write_text("no photo")
    assert cli(path.parent, "--output", out, "--save-faces", "--json") == 1
    restored, failed, numbers = map(json.loads, cli.out.splitlines())
    assert (restored["input"], restored["output"]) == (str(path), str(out / path.name))
    (face,) = restored["faces"]
    eye_distance = face.pop("eye_distance")
    assert abs(eye_distance - 3) < 0.5  # by the whole crop's scale
    assert face == {
        "number": None,
        "box": [0.0, 0.0, 8.0, 8.0],
        "landmarks": [[2.5, 3.0], [5.5, 3.0], [4.0, 4.5], [2.8, 6.0], [5.2, 6.0]],
        "score": 0.75,
        "seconds": 0.0,
    }
    assert (restored["width"], restored["height"]) == (16, 16)
    assert [Path(name).parent for name in restored["saved_faces"]] == [out / "faces"] * 2
    assert failed["input"].endswith("b.jpg") and "no image" in failed["error"]
    assert (numbers["restored"], numbers["failed"], numbers["not_tried"]) == (1, 1, 0)
    assert numbers["passed_over"] == {"not images": 1}
