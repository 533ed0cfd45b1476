"""EXIF data of strangers: what can't be written again is left out, and never ends a run."""

from __future__ import annotations

import io
import struct
import warnings

import pytest
from PIL import ExifTags, Image

from gfpgan_core import images

# Type in the file, how many, and their bytes: each where a tag expects another type.
_VALUES = {
    "text": (2, 6, b"abc\x1bd\0"),
    "bytes": (1, 4, b"\1\2\3\4"),
    "undefined": (7, 5, b"\xff\xfe\0\1\2"),
    "short": (3, 1, b"\1\0"),
    "long": (4, 2, struct.pack("<II", 2**32 - 1, 7)),
    "signed": (9, 1, struct.pack("<i", -5)),
    "signed ratios": (10, 3, struct.pack("<iiiiii", -1, -2, 3, 4, 5, 6)),
    "ratio over zero": (5, 1, struct.pack("<II", 1, 0)),
    "ratios": (5, 3, struct.pack("<IIIIII", 48, 1, 51, 1, 30, 1)),
    "double": (12, 1, struct.pack("<d", 1e300)),
}


def _directory(rows: list[tuple[int, int, int, bytes]], start: int) -> bytes:
    """Rows of tag, type, count and value, at a place in the EXIF data."""
    table, behind = struct.pack("<H", len(rows)), b""
    free = start + 2 + 12 * len(rows) + 4
    for tag, kind, count, value in rows:
        table += struct.pack("<HHI", tag, kind, count)
        if len(value) <= 4:
            table += value.ljust(4, b"\0")
        else:
            table += struct.pack("<I", free + len(behind))
            behind += value + bytes(len(value) % 2)
    return table + bytes(4) + behind


def _photo(directory: int, rows: list[tuple[int, int, int, bytes]]) -> bytes:
    """A JPEG whose EXIF data lead to one directory of these rows."""
    pointer = (directory, 4, 1, struct.pack("<I", 26))
    exif = b"II*\0" + struct.pack("<I", 8) + _directory([pointer], 8)
    buffer = io.BytesIO()
    image = Image.new("RGB", (32, 32))
    image.save(buffer, "JPEG", exif=b"Exif\0\0" + exif + _directory(rows, len(exif)))
    return buffer.getvalue()


@pytest.mark.parametrize("value", _VALUES)
@pytest.mark.parametrize("directory", [ExifTags.IFD.GPSInfo, ExifTags.IFD.Exif])
def test_tags_of_wrong_types_are_left_out_of_the_result(directory: int, value: str) -> None:
    gps = sorted(int(tag) for tag in ExifTags.GPS)
    camera = [0x829A, 0x829D, 0x8822, 0x8827, 0x9003, 0x9010, 0x9204, 0x9209, 0xA405, 0xA433]
    for tag in gps if directory == ExifTags.IFD.GPSInfo else camera:
        photo = images.decode(_photo(directory, [(tag, *_VALUES[value])]))
        exif = photo.metadata.exif(keep_gps=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for file_format in ("png", "jpg", "webp"):
                images.encode(photo.rgb, None, file_format, None, exif)


def test_a_sound_place_and_date_are_kept() -> None:
    """The photo's own rows, so that what is left out above isn't everything."""
    rows = [(2, *_VALUES["ratios"])]
    found = images.decode(_photo(ExifTags.IFD.GPSInfo, rows)).metadata
    assert [float(n) for n in found.gps[2]] == [48, 51, 30]
    date = (0x9003, 2, 20, b"2026:11:25 17:21:47\0")
    found = images.decode(_photo(ExifTags.IFD.Exif, [date])).metadata
    assert found.taken == found.camera[0x9003] == "2026:11:25 17:21:47"
