"""Archives of photos to train on, as people and attackers send them."""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PORTRAIT
from faults import full_disk, run_code

from gfpgan_core import bounds
from gfpgan_core.errors import InputError
from train import archive as archive_module
from train import unpack
from train.unpack import unpack_images

PNG = b"\x89PNG\r\n\x1a\n"


def _zip(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "photos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _tar(members: dict[str, bytes], **options: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _file(folder: Path, data: bytes) -> Path:
    path = folder / "train_data"
    path.write_bytes(data)
    return path


def test_images_are_told_by_content_and_the_rest_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = PORTRAIT.read_bytes()
    archive = _zip(
        tmp_path,
        {
            "a/1.jpg": data,
            "b/1.JPG": data,
            "c/1.jfif": data,
            "d": data,
            "notes.txt": b"-",
            "page.jpg": b"<!DOCTYPE html>",
            "phone.jxl": b"\xff\x0a" + bytes(30),
            "__MACOSX/a/._1.jpg": data,
            "a/._1.jpg": data,
            ".hidden.png": b"-",
        },
    )
    with caplog.at_level(logging.INFO):
        found = unpack_images(archive.rename(tmp_path / "no-suffix"), tmp_path / "out").images
    assert [path.read_bytes() == data for path in found] == [True] * 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [p.name for p in found]
    assert "4 images, 6 passed over: " in caplog.text
    for reason in ("3 hidden", "2 not images", "1 JPEG XL, which is not read"):
        assert reason in caplog.text


@pytest.mark.parametrize(
    "packed", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["tar", "gz", "bz2", "xz"]
)
def test_tars_of_every_compression_are_read(
    tmp_path: Path, packed: Callable[[bytes], bytes]
) -> None:
    data = PORTRAIT.read_bytes()
    members = {f"folder/{n}.jpg": data + bytes(n) for n in range(3)} | {"skipped.txt": bytes(2000)}
    found = unpack_images(_file(tmp_path, packed(_tar(members))), tmp_path / "out").images
    assert [len(path.read_bytes()) - len(data) for path in found] == [0, 1, 2]


def test_a_tar_whose_last_file_is_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = _zip(tmp_path, {"x.jpg": PNG}).read_bytes()
    path = _file(tmp_path, _tar({"a.png": PNG, "inner.zip": inner}))
    assert len(unpack_images(path, tmp_path / "out").images) == 1


NAMES = [
    "12:30 pm.jpg",
    "n" * 240 + ".jpg",
    "p" * 1000 + ".jpg",
    "caf\xe9 \u4eba.jpg",
    "a\nb\x1b.jpg",
]


@pytest.mark.parametrize("name", NAMES, ids=["colon", "240", "1000", "unicode", "controls"])
@pytest.mark.parametrize("kind", ["zip", "gnu", "pax"])
def test_odd_names_refuse_nothing(tmp_path: Path, name: str, kind: str) -> None:
    members = {f"set/{name}": PNG, "set/x.jpg": PNG}
    formats = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    if kind == "zip":
        path = _zip(tmp_path, members)
    else:
        path = _file(tmp_path, _tar(members, format=formats[kind]))  # type: ignore[arg-type]
    found = unpack_images(path, tmp_path / "out").images
    assert len(found) == 2
    assert all(p.name.isascii() and p.name.isprintable() and len(p.name) < 80 for p in found)


@pytest.mark.parametrize("tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_latin_1_names_are_read(tmp_path: Path, tar_format: int) -> None:
    data = _tar({"caf\xe9.jpg": PNG}, format=tar_format, encoding="latin-1")  # type: ignore[arg-type]
    assert len(unpack_images(_file(tmp_path, data), tmp_path / "out").images) == 1


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "..\\evil.png", "C:evil.png"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    archive = _zip(tmp_path, {"good.png": PNG, name: PNG})
    with pytest.raises(InputError, match="leads out of its folder"):
        unpack_images(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("*.png")) and not (tmp_path / "deep" / "out").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "photos.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("face.png")
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(InputError, match="a link or device"):
        unpack_images(path, tmp_path / "out")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo("face.png")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(InputError, match="a link or device"):
        unpack_images(path, tmp_path / "out")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = _zip(tmp_path, {"a.png": PNG + bytes(3 * 2**20)})
    assert bomb.stat().st_size < 10_000
    monkeypatch.setattr(unpack, "MAX_ENTRY_BYTES", 2**21)
    with pytest.raises(InputError, match="more than 2 MiB"):
        unpack_images(bomb, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(unpack, "MAX_ENTRY_BYTES", 2**30)
    monkeypatch.setattr(archive_module, "MIN_EXPANSION_BYTES", 2**21)
    with pytest.raises(InputError, match="the archive holds more than 2 MiB"):
        unpack_images(bomb, tmp_path / "out")
    monkeypatch.setattr(unpack, "MAX_ARCHIVE_ENTRIES", 2)
    many = _zip(tmp_path, {f"{i}.txt": b"" for i in range(3)})
    with pytest.raises(InputError, match="more than 2 entries"):
        unpack_images(many, tmp_path / "out")


def test_what_is_skipped_counts_as_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MIN_EXPANSION_BYTES", 2**21)
    data = bz2.compress(_tar({"film.mp4": bytes(3 * 2**20), "a.png": PNG}))
    with pytest.raises(InputError, match="the archive holds more than 2 MiB"):
        unpack_images(_file(tmp_path, data), tmp_path / "out")


def header_before_a_photo(kind: bytes, content: bytes) -> bytes:
    """A tar's extended header, and a photo it belongs to."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, len(content)
    padding = bytes(-len(content) % 512)
    return info.tobuf(tarfile.GNU_FORMAT) + content + padding + _tar({"a.png": PNG})


@pytest.mark.parametrize(
    ("kind", "content", "named"),
    [
        (tarfile.GNUTYPE_LONGNAME, b"n" * (bounds.MAX_HEADER_BYTES + 512), "longer than any"),
        (tarfile.XHDTYPE, b"1" * 20_000, "damaged header"),
        (tarfile.XHDTYPE, b"20000 path=" + b"1" * 19_988 + b"\n", "damaged header"),
        (tarfile.XHDTYPE, b"1 " * 5_000 + b"=\n", "damaged header"),
        (tarfile.XHDTYPE, b"9 a=bcde\n" * 1_000, "damaged header"),
    ],
    ids=["long name", "digits", "digits in a value", "overlapping", "many records"],
)
def test_headers_that_take_long_are_refused(
    tmp_path: Path, kind: bytes, content: bytes, named: str
) -> None:
    path = _file(tmp_path, gzip.compress(header_before_a_photo(kind, content)))
    with pytest.raises(InputError, match=named):
        unpack_images(path, tmp_path / "out")


def test_methods_that_unpack_any_length_at_once_are_refused(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "photos.zip", "w", method) as archive:
            archive.writestr("a.png", PNG)
        with pytest.raises(InputError, match=f"by method {method}"):
            unpack_images(tmp_path / "photos.zip", tmp_path / "out")


def test_damaged_and_foreign_archives_are_named_and_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_bytes(b"Dear sir")
    with pytest.raises(InputError, match="no zip or tar") as error:
        unpack_images(tmp_path / "text.zip", tmp_path / "out")
    assert "Dear" not in str(error.value)
    data = _zip(tmp_path, {"a.png": PORTRAIT.read_bytes()}).read_bytes()
    broken = bytearray(data)
    broken[200:300] = bytes(100)
    for damaged in (bytes(broken), data[:-30], gzip.compress(_tar({"a.png": PNG * 99}))[:-40]):
        with pytest.raises(InputError, match="damaged, cut off or encrypted"):
            unpack_images(_file(tmp_path, damaged), tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),  # RAR 5
        (b"Rar!\x1a\x07\x00", "a RAR archive"),  # RAR 4
        (b"\x28\xb5\x2f\xfd\x04", "compressed by zstd"),  # .tar.zst
        (b"\x04\x22\x4d\x18", "compressed by LZ4"),
        (b"\xff\xd8\xff\xe0", "no zip or tar"),  # a photo alone
    ],
)
def test_archives_of_other_kinds_are_named(tmp_path: Path, start: bytes, what: str) -> None:
    with pytest.raises(InputError, match=f"train_data is {what}: send the photos as a .zip"):
        unpack_images(_file(tmp_path, start + bytes(600)), tmp_path / "photos")


@pytest.mark.parametrize("folder", ["PK", "BZh", "Rar!\x1a\x07"])
def test_a_tar_is_one_whatever_its_first_name_looks_like(tmp_path: Path, folder: str) -> None:
    members = {f"{folder}/1.jpg": PORTRAIT.read_bytes()}
    archive = _tar(members, format=tarfile.USTAR_FORMAT)  # type: ignore[arg-type]
    (image,) = unpack_images(_file(tmp_path, archive), tmp_path / "photos").images
    assert image.read_bytes() == PORTRAIT.read_bytes()


@pytest.mark.parametrize(("size", "room"), [(300_000, 200_000), (3000, 2000)])
def test_a_full_disk_is_not_called_a_damaged_archive(tmp_path: Path, size: int, room: int) -> None:
    archive = _zip(tmp_path, {f"{number}.png": PNG + bytes(size) for number in range(3)})
    code = (
        "import sys\nfrom pathlib import Path\nfrom train.unpack import unpack_images\n"
        "try:\n    unpack_images(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    done = run_code(code, archive, tmp_path / "photos", before=full_disk(room))
    assert done.stdout.strip() == "File too large", done.stderr
    assert not (tmp_path / "photos").exists()
