"""What phones write: HEIC and AVIF the right way up, and the metadata that a result keeps."""

from __future__ import annotations

import io
import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import Cli, cli  # noqa: F401 (a fixture)
from PIL import ExifTags, Image, ImageCms, features

from gfpgan_core import bounds, images
from gfpgan_core.client_errors import errors_for_clients
from gfpgan_core.errors import InputError
from gfpgan_core.formats import WRITABLE
from gfpgan_core.images import ImageU8
from gfpgan_core.images.opening import open_checked
from gfpgan_core.result import Restoration

_KINDS = ("HEIF", "AVIF")
_TURNS = {
    1: lambda a: a,
    3: lambda a: np.rot90(a, 2),
    6: lambda a: np.rot90(a, -1),
    8: lambda a: np.rot90(a),
}


def _picture() -> ImageU8:
    """Four fields of different colors: each way up looks another way."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48], picture[:32, 48:] = (220, 40, 40), (40, 200, 40)
    picture[32:, :48], picture[32:, 48:] = (40, 40, 220), (230, 230, 60)
    return picture


def _needs(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")


def _bytes(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _photo_exif(turn: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "Aunt", "May's phone"
    camera, gps = (exif.get_ifd(ifd) for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))
    camera[ExifTags.Base.DateTimeOriginal] = "2026:05:01 12:30:00"
    camera[ExifTags.Base.FNumber], camera[ExifTags.Base.ISOSpeedRatings] = 1.75, 80
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "N", (48.0, 51.0, 29.5)
    return exif


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("turn", _TURNS)
def test_a_phones_photo_is_upright_whichever_way_it_was_held(kind: str, turn: int) -> None:
    """The container turns it (`irot`), and the EXIF data say so as well: it is turned once."""
    _needs(kind)
    exif = _photo_exif(turn)
    exif[0x0113] = turn
    data = _bytes(Image.fromarray(_picture()), kind, exif=exif.tobytes(), quality=95)
    if turn != 1:
        assert b"irot" in data
        # As phones write it: Pillow's writer takes the orientation out of the EXIF data.
        orientation, unused = (struct.pack(">HHI", tag, 3, 1) for tag in (0x0112, 0x0113))
        assert data.count(unused + bytes([0, turn])) == 1
        if orientation + bytes([0, turn]) not in data:
            data = data.replace(unused, orientation)
    photo = images.decode(data)
    expected = _TURNS[turn](_picture())
    assert photo.rgb.shape == expected.shape
    assert np.abs(photo.rgb.astype(int) - expected).mean() < 8
    assert photo.format == "jpg" and photo.pages == 1


@pytest.mark.parametrize("kind", [*_KINDS, "JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("file_format", WRITABLE)
@pytest.mark.parametrize("keep_gps", [False, True])
def test_date_and_camera_are_kept_and_the_place_only_if_asked(
    kind: str, file_format: images.Format, keep_gps: bool
) -> None:
    _needs(kind)
    photo = images.decode(_bytes(Image.fromarray(_picture()), kind, exif=_photo_exif(6).tobytes()))
    written = Restoration(
        photo.rgb, None, photo.format, [], [], [], dpi=(144, 144), metadata=photo.metadata
    ).encode(file_format, keep_gps=keep_gps)
    assert written == Restoration(
        photo.rgb, None, photo.format, [], [], [], dpi=(144, 144), metadata=photo.metadata
    ).encode(file_format, keep_gps=keep_gps)
    with Image.open(io.BytesIO(written)) as image:
        exif = image.getexif()
        assert exif[ExifTags.Base.Model] == "May's phone"
        camera, gps = (exif.get_ifd(ifd) for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))
        assert camera[ExifTags.Base.DateTimeOriginal] == "2026:05:01 12:30:00"
        assert float(camera[ExifTags.Base.FNumber]) == 1.75
        assert bool(gps) == keep_gps
        if keep_gps:
            assert [float(n) for n in gps[ExifTags.GPS.GPSLatitude]] == [48.0, 51.0, 29.5]
        assert ExifTags.Base.Orientation not in exif  # it is upright
    assert images.decode(written).metadata.taken == "2026:05:01 12:30:00"


def test_the_report_says_date_camera_and_profile(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(lab))).strip()
    data = _bytes(Image.fromarray(_picture()), "JPEG", exif=_photo_exif(), icc_profile=lab)
    (tmp_path / "a.jpg").write_bytes(data)
    for words in ([], ["--keep-gps"]):
        out = tmp_path / f"out{len(words)}"
        assert cli(tmp_path / "a.jpg", "--output", out, "--json", *words) == 0
        described = json.loads(cli.out.splitlines()[0])
        assert described["taken"] == "2026:05:01 12:30:00"
        assert described["camera"] == "Aunt May's phone"
        assert described["color_profile"] == name


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (ExifTags.Base.Make, "x" * 100_000),
        (ExifTags.Base.DateTime, b"\xff\xfe\0\0"),
        (ExifTags.Base.Model, (1, 2, 3, 4, 5, 6)),
    ],
)
def test_tags_of_odd_types_and_sizes_do_not_stop_a_photo(tag: int, value: Any) -> None:
    exif = Image.Exif()
    exif[tag] = value
    try:
        data = _bytes(Image.fromarray(_picture()), "PNG", exif=exif)
    except Exception:
        pytest.skip("this Pillow doesn't write it")
    photo = images.decode(data)
    assert images.encode(photo.rgb, None, "jpg", None, photo.metadata.exif())


def test_without_its_decoder_a_photo_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)
    with pytest.raises(InputError, match=r"IMG_1.HEIC is HEIC, .*pip install 'gfpgan-core\[heif\]"):
        images.decode(data, "IMG_1.HEIC")
    # Who sends it to a server can install nothing there.
    with pytest.raises(InputError) as seen, errors_for_clients("choose another version"):
        images.decode(data, "img")
    text = "img is HEIC, which this server does not read: save it as JPEG or PNG first"
    assert str(seen.value) == text
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(InputError, match=r"a.avif is AVIF, .*pip install -U pillow"):
        images.decode(b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(50), "a.avif")


@pytest.mark.parametrize("kind", _KINDS)
def test_a_phones_photo_is_bounded_by_what_decoding_takes(kind: str) -> None:
    """Told from the header, where another size is written: no pixel is decoded."""
    _needs(kind)
    data = _bytes(Image.fromarray(_picture()), kind)
    at = data.index(b"ispe") + 8  # after the name, its version and flags: width and height

    def of(width: int) -> bytes:
        return data[:at] + struct.pack(">II", width, 5000) + data[at + 8 :]

    most = bounds.MAX_HEIF_MEGAPIXELS * 200
    with pytest.raises(InputError, match="may have at most 50"):
        open_checked(of(most + 1), "x", 1)
    assert open_checked(of(most), "x", 1).size == (most, 5000)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_phones_photo_that_is_cut_off_is_named(kind: str) -> None:
    _needs(kind)
    noise = Image.effect_noise((128, 128), 60).convert("RGB")
    data = _bytes(noise, kind)
    with pytest.raises(InputError, match="damaged or cut off"):
        images.decode(data[: len(data) // 2], "x")
