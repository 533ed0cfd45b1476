"""SECURITY.md says what the code does: each bound is the constant's, each test that it names is."""

from __future__ import annotations

import io
import re
from types import ModuleType
from typing import get_args

import numpy as np
import pytest
from conftest import ROOT, png_header
from PIL import ExifTags, Image

from gfpgan_core import bounds, images, serving
from gfpgan_core.errors import InputError

_TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
_UNITS = {"MiB": 2**20, "GiB": 2**30}
_ROWS = re.findall(r"^\| (.+?) \| ([\d,]+) ?(\w*) \| `(\w+)\.(\w+)` \|", _TEXT, re.MULTILINE)


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row[4])
def test_the_table_gives_the_bound_that_the_code_has(row: tuple[str, ...]) -> None:
    _, number, unit, module, name = row
    value = getattr({"bounds": bounds, "serving": serving}[module], name)
    assert int(number.replace(",", "")) * _UNITS.get(unit, 1) == value


def test_the_table_has_a_row_for_what_strangers_send() -> None:
    kinds = {row[0].split(":")[0] for row in _ROWS}
    assert {"photo", "result", "archive", "weights"} <= kinds


@pytest.mark.parametrize("module", [bounds, serving])
def test_every_bound_of_the_code_has_its_row(module: ModuleType) -> None:
    names = {name for name in vars(module) if name.startswith(("MAX_", "MIN_"))}
    assert names == {row[4] for row in _ROWS if f"gfpgan_core.{row[3]}" == module.__name__}


def test_every_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(tests/\w+\.py)`", _TEXT))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_no_file_but_a_benchmarks_own_is_unpickled() -> None:
    """torch.load reads beyond a lying record's end, even with `weights_only`."""
    unsafe = re.compile(
        r"\b(torch\.load|pickle\.loads?|allow_pickle|load_state_dict_from_url|get_state_dict"
        r"|torch\.jit\.load|yaml\.(unsafe_)?load|joblib|marshal|shelve)\b"
    )
    folders = ("gfpgan_core", "train", "scripts", "examples")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 100
    found = [path.name for path in paths if unsafe.search(path.read_text(encoding="utf-8"))]
    assert found == ["benchmark_sides.py"]


@pytest.mark.parametrize("file_format", get_args(images.Format))
def test_where_a_photo_was_taken_isnt_in_the_result(file_format: images.Format) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif[ExifTags.Base.Make] = "a camera"
    buffer = io.BytesIO()
    Image.fromarray(np.full((32, 32, 3), 90, np.uint8)).save(buffer, "JPEG", exif=exif)
    with Image.open(io.BytesIO(buffer.getvalue())) as photo:
        assert photo.getexif().get_ifd(ExifTags.IFD.GPSInfo)  # the photo has it
    decoded = images.decode(buffer.getvalue())
    assert decoded.metadata.gps  # it was read, and is left out where nobody asks for it
    exif = decoded.metadata.exif()
    result = images.encode(decoded.rgb, decoded.alpha, file_format, (300, 300), exif)
    with Image.open(io.BytesIO(result)) as image:
        assert not image.getexif().get_ifd(ExifTags.IFD.GPSInfo)
        assert image.getexif()[ExifTags.Base.Make] == "a camera"


def test_a_picture_that_is_too_narrow_for_a_face_is_refused() -> None:
    with pytest.raises(InputError, match="at least 16 px"):
        images.decode(png_header(15, 400))
