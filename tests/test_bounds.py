"""Bounds of `gfpgan_core.bounds`, just inside and just outside of each, at their real values."""

from __future__ import annotations

import io
import itertools
import re
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin
from test_archives import PNG, header_before_a_photo

from gfpgan_core import bounds, images
from gfpgan_core.errors import InputError
from train.archive import Allowance
from train.unpack import unpack_images


def _tiff(**options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(buffer, "TIFF", **options)
    return buffer.getvalue()


def test_scans_of_a_tiffs_jpeg_parts() -> None:
    """One part may have 4; 64 more are allowed because other bytes may look like a scan's start."""
    data = _tiff(compression="jpeg")
    own = data.count(b"\xff\xda")
    most = bounds.MAX_STRIP_SCANS + bounds.MAX_JPEG_SCANS
    assert images.decode(data + b"\xff\xda" * (most - own)).rgb.shape == (32, 32, 3)
    with pytest.raises(InputError, match="too many JPEG scans"):
        images.decode(data + b"\xff\xda" * (most - own + 1))


def _animation(frames: int) -> bytes:
    """The start of an animated PNG of 64 megapixels a frame; no pixel is in it."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0)),
        (b"acTL", struct.pack(">II", frames, 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, 8000, 8000, 0, 0, 1, 1, 0, 0)),
        (b"IDAT", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def test_megapixels_of_an_animation_up_to_the_page_asked_for() -> None:
    last = bounds.MAX_ANIMATION_MEGAPIXELS // 64
    with pytest.raises(InputError, match=f"page {last} is damaged or cut off"):
        images.decode(_animation(last + 1), page=last)  # it isn't refused for its cost
    with pytest.raises(InputError, match=f"page {last + 1} of 8000x8000 px builds on 576 mega"):
        images.decode(_animation(last + 1), page=last + 1)


def test_pages_of_a_tiff_that_are_counted() -> None:
    page = Image.new("L", (16, 16))
    buffer = io.BytesIO()
    page.save(buffer, "TIFF", save_all=True, append_images=[page] * bounds.MAX_PAGES)
    data = buffer.getvalue()
    photo = images.decode(data, page=bounds.MAX_PAGES)
    assert (photo.page, photo.pages) == (bounds.MAX_PAGES, bounds.MAX_PAGES)
    with pytest.raises(InputError, match=f"has {bounds.MAX_PAGES} pages; page"):
        images.decode(data, page=bounds.MAX_PAGES + 1)


def _stereo(views: int) -> bytes:
    """A JPEG file of several views. Pillow writes wrong places from the fourth on: written anew."""
    view = Image.new("RGB", (16, 16))
    buffer = io.BytesIO()
    view.save(buffer, "MPO", save_all=True, append_images=[view] * (views - 1))
    data = bytearray(buffer.getvalue())
    starts = [m.start() for m in re.finditer(b"\xff\xd8\xff\xe0", data)]
    sizes = [end - start for start, end in itertools.pairwise([*starts, len(data)])]
    base = data.index(b"MPF\0") + 4  # what places are counted from
    table = data.index(struct.pack("<LLLHH", 0x030000, sizes[0], 0, 0, 0))
    for row, (start, size) in enumerate(zip(starts[1:], sizes[1:], strict=True), 1):
        struct.pack_into("<LLLHH", data, table + 16 * row, 0, size, start - base, 0, 0)
    return bytes(data)


def test_views_of_a_stereo_photo_that_are_counted() -> None:
    most = bounds.MAX_VIEWS
    for views, counted in ((most - 1, most - 1), (most, most), (most + 1, most)):
        assert images.decode(_stereo(views)).pages == counted
    with pytest.raises(InputError, match=f"has {most} pages; page"):
        images.decode(_stereo(most + 1), page=most + 1)


def test_bytes_of_a_color_profile() -> None:
    """A profile with red and blue exchanged, padded: applied at the bound, ignored beyond it."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = (profile.index(name, 128) for name in (b"rXYZ", b"bXYZ"))
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    plain = images.decode(_tiff()).rgb
    for size, applied in ((bounds.MAX_PROFILE_BYTES, True), (bounds.MAX_PROFILE_BYTES + 4, False)):
        padded = profile + bytes(size - len(profile))
        padded[:4] = struct.pack(">I", size)
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[TiffImagePlugin.ICCPROFILE] = bytes(padded)
        found = images.decode(_tiff(tiffinfo=tags)).rgb
        expected = plain[..., ::-1] if applied else plain
        assert np.abs(found.astype(int) - expected).max() <= (2 if applied else 0)


@pytest.mark.parametrize(
    ("more", "text"), [(0, "damaged, cut off or encrypted"), (1, "list of files has 16777217")]
)
def test_bytes_of_a_zips_list_of_entries(more: int, text: str, tmp_path: Path) -> None:
    """The list is zeros, which is no list: what matters is that it is read or not."""
    size = bounds.MAX_DIRECTORY_BYTES + more
    path = tmp_path / "photos.zip"
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.seek(4 + size)  # a hole
        file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, size, 4, 0))
    with pytest.raises(InputError, match=text):
        unpack_images(path, tmp_path / "out")


def test_how_much_an_archive_may_unpack_to() -> None:
    most = bounds.MIN_EXPANSION_BYTES
    assert Allowance(1).total == Allowance(most // bounds.MAX_EXPANSION).total == most
    assert Allowance(2**21).total == bounds.MAX_EXPANSION * 2**21
    assert Allowance(2**40).total == bounds.MAX_UNPACKED_BYTES
    Allowance(1).take(most)
    with pytest.raises(InputError, match="more than 96 MiB"):
        Allowance(1).take(most + 1)


def _record(text: bytes) -> bytes:
    """A record of a pax header, whose length counts its own digits."""
    length = len(text) + 2
    while len(b"%d" % length) + len(text) + 2 != length:
        length += 1
    return b"%d %b\n" % (length, text)


def _records(count: int) -> bytes:
    return b"".join(_record(b"a%d=b" % i) for i in range(count))


_FILLING = _record(b"comment=" + b"x" * 600)  # a header of one block is never long
_INSIDE, _LONG = "1 image", "longer than any camera's"


@pytest.mark.parametrize(
    ("kind", "content", "outcome"),
    [
        (tarfile.GNUTYPE_LONGNAME, b"n" * bounds.MAX_HEADER_BYTES, _INSIDE),
        (tarfile.GNUTYPE_LONGNAME, b"n" * (bounds.MAX_HEADER_BYTES + 1), _LONG),
        (tarfile.XHDTYPE, _FILLING + _record(b"a=" + b"1" * 64), _INSIDE),
        (tarfile.XHDTYPE, _FILLING + _record(b"a=" + b"1" * 65), "damaged header"),
        (tarfile.XHDTYPE, _FILLING + _records(63), _INSIDE),
        (tarfile.XHDTYPE, _FILLING + _records(64), "damaged header"),
    ],
    ids=["bytes", "bytes+1", "digits", "digits+1", "records", "records+1"],
)
def test_headers_of_a_tar(kind: bytes, content: bytes, outcome: str, tmp_path: Path) -> None:
    assert bounds.MAX_HEADER_RECORDS == bounds.MAX_HEADER_DIGITS == 64
    path = tmp_path / "photos.tar"
    path.write_bytes(header_before_a_photo(kind, content))
    if outcome == _INSIDE:
        (image,) = unpack_images(path, tmp_path / "out").images
        assert image.read_bytes() == PNG
    else:
        with pytest.raises(InputError, match=outcome):
            unpack_images(path, tmp_path / "out")
