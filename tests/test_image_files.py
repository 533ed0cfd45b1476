"""What files say beside their pixels: pages, resolution, place, and how samples are stored."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import tifffile
from hostile.pictures import with_elements
from PIL import Image, ImageCms, TiffImagePlugin

from gfpgan_core import bounds, images
from gfpgan_core.errors import InputError
from gfpgan_core.formats import ENCODINGS, WRITABLE
from gfpgan_core.images import ImageU8, Photo
from gfpgan_core.result import Restoration


def _ramp() -> ImageU8:
    """Gray from 0 to 255, (32, 64)."""
    return np.linspace(0, 255, 32 * 64).round().astype(np.uint8).reshape(32, 64)


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def _bytes(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _frames(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 30), (20 * n, 255 - 20 * n, 0)) for n in range(count)]


WIDE = _ramp().astype(np.uint16) * 257
COLOR = np.dstack([_ramp(), _ramp()[::-1], _ramp()[:, ::-1]])
CMYK = np.dstack([255 - COLOR, np.zeros_like(_ramp())])  # without black ink
WIDE_COLOR = COLOR.astype(np.uint16) * 257

_PLANAR: dict[str, Any] = {"planarconfig": "separate"}
_WIDE_PLANES = np.moveaxis(WIDE_COLOR, 2, 0)
_PLANES: list[tuple[np.ndarray, dict[str, Any]]] = [
    (_WIDE_PLANES, {}),
    (_WIDE_PLANES, {"byteorder": ">"}),
    (_WIDE_PLANES, {"tile": (16, 16)}),
    (_WIDE_PLANES, {"compression": "zlib"}),
    (_WIDE_PLANES, {"compression": "zlib", "predictor": True}),
]


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (_ramp(), {"photometric": "minisblack"}),
        (255 - _ramp(), {"photometric": "miniswhite"}),
        (WIDE, {"photometric": "minisblack"}),
        (WIDE, {"photometric": "minisblack", "byteorder": ">"}),
        (65535 - WIDE, {"photometric": "miniswhite"}),
        (65535 - WIDE, {"photometric": "miniswhite", "compression": "zlib"}),
        (COLOR, {"photometric": "rgb", "planarconfig": "contig"}),
        (np.moveaxis(COLOR, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        (WIDE_COLOR, {"photometric": "rgb"}),
        (WIDE_COLOR, {"photometric": "rgb", "byteorder": ">"}),
        (COLOR, {"photometric": "rgb", "tile": (16, 16)}),
        *((planes, {"photometric": "rgb", **_PLANAR, **more}) for planes, more in _PLANES),
        (COLOR, {"photometric": "rgb", "rowsperstrip": 5}),
        (CMYK, {"photometric": "separated", "planarconfig": "contig"}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_tiff_is_right_or_refused_by_name(pixels: np.ndarray, options: dict[str, Any]) -> None:
    expected = COLOR if pixels.ndim == 3 else np.repeat(_ramp()[..., None], 3, axis=2)
    try:
        photo = images.decode(_tiff(pixels, **options), "scan.tif")
    except InputError as error:
        assert "scan.tif is a TIFF of " in str(error) and " bit" in str(error)
    else:
        assert np.abs(photo.rgb.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("pixels", "named"),
    [
        (WIDE.astype(np.uint32) * 65537, "32 bit"),
        (WIDE.astype(np.int32), "32 bit, signed"),
        ((WIDE // 2).astype(np.int16), "16 bit, signed"),
        ((_ramp() // 2).astype(np.int8), "8 bit, signed"),
        (_ramp().astype(np.float32) / 255, "floating-point"),
        (_ramp().astype(np.float64) / 255, "64 bit floating-point"),
        (WIDE.astype(np.uint64), "64 bit"),
    ],
)
def test_samples_without_a_defined_white_are_refused_by_name(
    pixels: np.ndarray, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        images.decode(_tiff(pixels, photometric="minisblack"))


def test_lab_is_converted() -> None:
    """L* 53.2, a* 80.1, b* 67.2 is sRGB's pure red (CIE 1976, D65; ICC's Lab is D50's)."""
    lab = Image.new("LAB", (32, 32), (139, 128 + 80, 128 + 70))
    red = images.decode(_bytes(lab, "TIFF")).rgb[9, 9].astype(int)
    assert red[0] > 245 and red[1] < 25 and red[2] < 25


def test_a_profiles_chain_of_elements_is_passed_over() -> None:
    """It would darken the photo, and each of its elements takes time."""
    image = Image.fromarray(COLOR)
    chained = with_elements(1)
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(chained)), ImageCms.createProfile("sRGB"), "RGB", "RGB"
    )
    applied = np.asarray(ImageCms.applyTransform(image, transform))
    assert np.abs(applied.astype(int) - COLOR).max() > 5  # the library sees it
    found = images.decode(_bytes(image, "TIFF", icc_profile=chained)).rgb
    assert np.abs(found.astype(int) - COLOR).max() <= 1


def test_a_16_bit_gray_key_is_transparent() -> None:
    wide = np.full((20, 20), 40_000, np.uint16)
    wide[:, :10] = 1_000
    photo = images.decode(_bytes(Image.fromarray(wide), "PNG", transparency=1_000))
    assert photo.alpha is not None
    assert (photo.alpha[:, :10] == 0).all() and (photo.alpha[:, 10:] == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_each_page_can_be_chosen_and_is_counted(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    first, *others = _frames(3)
    data = _bytes(first, kind, save_all=True, append_images=others, **options)
    for page in (1, 2, 3):
        photo = images.decode(data, page=page)
        assert (photo.page, photo.pages) == (page, 3)
        color = photo.rgb[9, 9].astype(int)
        assert np.abs(color - [20 * (page - 1), 255 - 20 * (page - 1), 0]).max() <= 8
    with pytest.raises(InputError, match=r"has 3 pages; page 4 is not there: choose 1 to 3"):
        images.decode(data, page=4)


def test_a_still_has_one_page_and_so_has_a_jpeg_with_a_preview() -> None:
    first, second = _frames(2)
    assert images.decode(_bytes(first, "PNG")).pages == 1
    gain_map = second.resize((20, 15))
    mpo = _bytes(first, "MPO", save_all=True, append_images=[gain_map])
    assert images.decode(mpo).pages == 1
    with pytest.raises(InputError, match="has 1 page; page 2"):
        images.decode(mpo, page=2)


def test_the_views_of_a_stereo_photo_are_pages() -> None:
    first, second = _frames(2)
    preview = first.resize((20, 15))
    mpo = _bytes(first, "MPO", save_all=True, append_images=[second, preview])
    for page, view in ((1, first), (2, second)):
        photo = images.decode(mpo, page=page)
        assert (photo.page, photo.pages) == (page, 2)
        assert np.abs(photo.rgb.astype(int) - np.asarray(view)).max() <= 4
    with pytest.raises(InputError, match="has 2 pages; page 3"):
        images.decode(mpo, page=3)


def test_a_later_view_of_many_scans_is_refused() -> None:
    view = _progressive(bounds.MAX_JPEG_SCANS + 1)
    first = Image.fromarray(COLOR)
    plain = _bytes(first, "MPO", save_all=True, append_images=[first])
    second = plain.rindex(b"\xff\xd8\xff")
    images.decode(plain, page=2)
    with pytest.raises(InputError, match="more than 64 scans"):
        images.decode(plain[:second] + view, page=2)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_resolution_is_read(kind: str) -> None:
    photo = images.decode(_bytes(_frames(1)[0], kind, dpi=(600, 300)))
    assert photo.dpi is not None and np.allclose(photo.dpi, (600, 300), atol=0.1)


@pytest.mark.parametrize("file_format", WRITABLE)
def test_resolution_is_written(file_format: images.Format) -> None:
    data = images.encode(COLOR, None, file_format, (1200.0, 600.0))
    with Image.open(io.BytesIO(data)) as image:
        if ENCODINGS[file_format].dpi == "exif":
            found = tuple(float(image.getexif()[tag]) for tag in (282, 283))
        else:
            found = image.info["dpi"]
    assert np.allclose(found, (1200, 600), atol=0.1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_resolution_is_read_from_exif_where_the_format_has_no_other(kind: str) -> None:
    exif = Image.Exif()
    exif[282], exif[283], exif[296] = 120.0, 120.0, 3  # a centimeter
    photo = images.decode(_bytes(_frames(1)[0], kind, exif=exif))
    assert photo.dpi is not None and np.allclose(photo.dpi, (304.8, 304.8), atol=0.1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_resolution_turns_with_the_photo(kind: str, turn: int) -> None:
    """A picture of 40 x 30 px at 400 x 100 dpi is 0.1 x 0.3 inches large, however it is held."""
    exif = Image.Exif()
    exif[0x0112] = turn
    photo = images.decode(_bytes(_frames(1)[0], kind, exif=exif, dpi=(400, 100)))
    assert photo.dpi is not None
    inches = sorted(s / d for s, d in zip(photo.rgb.shape[1::-1], photo.dpi, strict=True))
    assert np.allclose(inches, (0.1, 0.3), atol=0.001)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "GIF"])
def test_a_photo_without_a_resolution_gets_none(kind: str) -> None:
    assert images.decode(_bytes(_frames(1)[0], kind)).dpi is None


@pytest.mark.parametrize("dpi", [(0, 0), (1e9, 1e9)])
def test_a_resolution_that_cant_be_is_no_resolution(dpi: tuple[float, float]) -> None:
    assert images.decode(_bytes(_frames(1)[0], "TIFF", dpi=dpi)).dpi is None


def test_a_resolution_that_jpeg_cant_hold_is_its_largest() -> None:
    data = images.encode(COLOR, None, "jpg", (99_999.0, 99_999.0))
    assert Image.open(io.BytesIO(data)).info["dpi"] == (65_535, 65_535)


@pytest.mark.parametrize("file_format", WRITABLE)
def test_what_is_not_named_is_never_copied(file_format: images.Format) -> None:
    exif = Image.Exif()
    exif[0x010E], exif[0x013C] = "SecretTitle", "SecretPhone"
    camera = exif.get_ifd(0x8769)
    camera[0x927C], camera[0x9286], camera[0xA431] = b"SecretNote", b"SecretComment", "SecretSerial"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 29.5)
    data = _bytes(Image.fromarray(COLOR), "JPEG", exif=exif, comment=b"SecretPlace", dpi=(300, 300))
    assert (
        b"SecretTitle" in data
        and b"SecretSerial" in data
        and Image.open(io.BytesIO(data)).getexif().get_ifd(0x8825)
    )
    photo = images.decode(data)
    result = Restoration(
        photo.rgb, photo.alpha, photo.format, [], [], [], dpi=photo.dpi, metadata=photo.metadata
    )
    written = result.encode(file_format)
    assert b"Secret" not in written and b"Secret" not in result.encode(file_format, keep_gps=True)
    with Image.open(io.BytesIO(written)) as image:
        assert not image.getexif().get_ifd(0x8825)
        assert set(image.getexif()) <= {282, 283, 296}  # the resolution, which WebP keeps there


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation_is_shown_upright(turn: int) -> None:
    """Against Pillow's own transpositions, as the standard names them."""
    how = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    image = Image.fromarray(COLOR)
    expected = image.transpose(how[turn]) if turn in how else image
    exif = Image.Exif()
    exif[0x0112] = turn
    for kind in ("PNG", "TIFF"):
        photo = images.decode(_bytes(image, kind, exif=exif))
        assert np.array_equal(photo.rgb, np.asarray(expected)), kind


def test_a_photo_with_broken_exif_is_shown_as_it_is() -> None:
    data = _bytes(Image.fromarray(COLOR), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12")
    assert np.array_equal(images.decode(data).rgb, COLOR)


def test_tags_of_wrong_types_are_an_input_error() -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[277] = "three"  # samples per pixel
    data = _bytes(Image.fromarray(COLOR), "TIFF", tiffinfo=tags)
    damaged = data.replace(b"\x15\x01\x03\x00", b"\x15\x01\x02\x00")
    for attempt in (data, damaged):
        try:
            images.decode(attempt)
        except InputError as error:
            assert "TIFF" in str(error) or "damaged" in str(error)


def _progressive(scans: int) -> bytes:
    """A JPEG whose last scan is repeated."""
    data = _bytes(Image.fromarray(COLOR), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded() -> None:
    assert images.decode(_progressive(2)).rgb.shape == COLOR.shape
    with pytest.raises(InputError, match=f"more than {bounds.MAX_JPEG_SCANS} scans"):
        images.decode(_progressive(bounds.MAX_JPEG_SCANS + 1))


def test_a_thumbnail_and_a_video_behind_the_photo_are_no_scans_of_it() -> None:
    data = _bytes(Image.fromarray(COLOR), "JPEG") + b"\xff\xda\0\x08" * 1000
    assert images.decode(data).rgb.shape == COLOR.shape


def test_pixels_that_pillow_expands_slowly_are_bounded() -> None:
    """A run-length encoded BMP of the largest side: its header, and one end of bitmap."""
    header = bytearray(_bytes(Image.new("P", (16, 16)), "BMP"))
    header[18:26] = (4000).to_bytes(4, "little") * 2
    header[30:34] = (1).to_bytes(4, "little")
    with pytest.raises(InputError, match="run-length encoded BMP may have at most"):
        images.decode(bytes(header[:1078]) + b"\0\0" * 100 + b"\0\x01")


def test_a_large_webp_is_refused_by_its_memory() -> None:
    data = _bytes(Image.new("RGB", (6400, 6400)), "WEBP", quality=1, method=0)
    with pytest.raises(InputError, match="a WebP file may have at most"):
        images.decode(data)


def test_reading_takes_files_only(tmp_path: Any) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="no file, but a folder, pipe"):
        images.read(tmp_path / "pipe.jpg")
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(bounds.MAX_IMAGE_BYTES + 1)
    with pytest.raises(InputError, match="may have at most"):
        images.read(tmp_path / "sparse.jpg")


def test_photo_defaults_say_one_page() -> None:
    photo = Photo(COLOR)
    assert (photo.page, photo.pages, photo.dpi) == (1, 1, None)
