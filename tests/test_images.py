from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import png_header
from PIL import Image, ImageCms

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.formats import WRITABLE


def _gradient(height: int = 40, width: int = 60) -> np.ndarray:
    """Every channel a different ramp, so that swaps and turns show."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], axis=2).astype(np.uint8)


def _bytes(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "file_format"),
    [("PNG", "png"), ("BMP", "png"), ("TIFF", "png"), ("WEBP", "webp"), ("JPEG", "jpg")],
)
def test_content_and_not_the_name_decides(kind: str, file_format: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    path = tmp_path / "photo.txt"
    path.write_bytes(_bytes(Image.fromarray(_gradient()), kind, **options))
    photo = images.read(path)
    tolerance = 12 if kind == "JPEG" else 0  # chroma is halved
    assert photo.format == file_format
    assert np.abs(photo.rgb.astype(int) - _gradient()).max() <= tolerance


def test_16_bit_png_keeps_its_high_byte() -> None:
    wide = _gradient().astype(np.uint16) * 257
    gray = images.decode(_bytes(Image.fromarray(wide[..., 0]), "PNG"))
    assert np.array_equal(gray.rgb, np.repeat(_gradient()[..., :1], 3, axis=2))
    _, color = cv2.imencode(".png", wide[..., ::-1])
    rgb = images.decode(color.tobytes()).rgb
    assert np.abs(rgb.astype(int) - _gradient()).max() <= 1


def test_palette_and_transparency_become_rgb_and_alpha() -> None:
    image = Image.fromarray(_gradient()).convert("P", palette=Image.Palette.ADAPTIVE)
    opaque = images.decode(_bytes(image, "PNG"))
    clear = images.decode(_bytes(image, "PNG", transparency=image.getpixel((0, 0))))
    assert opaque.alpha is None
    assert clear.alpha is not None and clear.alpha[0, 0] == 0 and clear.alpha.max() == 255
    assert images.chosen_format(clear, "auto") == "png"


def test_exif_turn_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated 90 degrees clockwise
    data = _bytes(Image.fromarray(_gradient()), "PNG", exif=exif)
    assert np.array_equal(images.decode(data).rgb, np.rot90(_gradient(), -1))


def test_cmyk_and_gray_alpha() -> None:
    cmyk = Image.new("CMYK", (30, 20), (0, 255, 255, 0))  # no cyan, full magenta and yellow: red
    red = images.decode(_bytes(cmyk, "JPEG", quality=100)).rgb[10, 10].astype(int)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60
    gray = Image.merge("LA", [Image.new("L", (30, 20), 70), Image.new("L", (30, 20), 128)])
    photo = images.decode(_bytes(gray, "PNG"))
    assert photo.alpha is not None and (photo.alpha == 128).all() and (photo.rgb == 70).all()


def test_another_icc_profile_is_converted_to_srgb() -> None:
    """sRGB whose primaries red and blue change places: its red is sRGB's blue."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"----").replace(b"bXYZ", b"rXYZ").replace(b"----", b"bXYZ")
    for profile, expected in (
        (srgb, _gradient()),
        (swapped, _gradient()[..., ::-1]),
        (b"no profile at all", _gradient()),
    ):
        data = _bytes(Image.fromarray(_gradient()), "PNG", icc_profile=profile)
        assert np.abs(images.decode(data).rgb.astype(int) - expected).max() <= 2


def test_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (20, 20), c) for c in ("red", "blue")]
    data = _bytes(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tuple(images.decode(data).rgb[5, 5]) == (255, 0, 0)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "0 bytes"),
        (b"Dear sir or madam, this is no photo.", "no image"),
        (png_header(30_000, 30_000), "30000x30000 px|too many pixels"),
        (png_header(20_000, 200), "at most"),
        (_bytes(Image.new("RGB", (1, 1)), "PNG"), "1x1 px"),
        (_bytes(Image.fromarray(_gradient(400, 400)), "JPEG")[:3000], "cut off"),
        (_bytes(Image.effect_noise((80, 80), 50), "PNG")[:2000], "cut off"),
        (png_header(300, 300)[:30], "begins as a PNG file, but is damaged"),
        (_bytes(Image.new("F", (30, 30)), "TIFF"), "floating-point"),
    ],
    ids=["empty", "text", "huge", "long", "1x1", "cut-jpeg", "cut-png", "cut-header", "float"],
)
def test_unusable_input_is_named(data: bytes, text: str) -> None:
    with pytest.raises(InputError, match=text):
        images.decode(data, "photo.jpg")


@pytest.mark.parametrize("file_format", WRITABLE)
def test_encoded_images_can_be_read_by_others(file_format: images.Format) -> None:
    data = images.encode(_gradient(), None, file_format)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert read is not None
    tolerance = {"jpg": 8, "webp": 24}.get(file_format, 0)
    assert np.abs(read[..., ::-1].astype(int) - _gradient()).max() <= tolerance


def test_jpeg_lays_transparency_on_white() -> None:
    alpha = np.zeros((40, 60), np.uint8)
    data = images.encode(np.zeros((40, 60, 3), np.uint8), alpha, "jpg")
    assert images.decode(data).rgb.min() >= 253


def test_tensor_round_trip_is_exact() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = images.to_pm1(levels)
    assert tensor.min() == -1 and tensor.max() == 1
    assert np.array_equal(images.from_pm1(tensor), levels)
    assert images.from_pm1(torch.full((3, 1, 1), 7.0)).max() == 255  # clipped, not wrapped


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't be written"):
        images.write(tmp_path / "file" / "photo.png", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_is_gray_tells_gray_from_muted_color() -> None:
    gray = np.repeat(_gradient()[..., :1], 3, axis=2)
    muted = gray.copy()
    muted[..., 2] //= 2
    assert images.is_gray(gray)
    assert not images.is_gray(muted)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("PNG", {"dpi": (300, 300)}),
        ("PNG", {"exif": Image.Exif()}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_pixels_that_are_damaged_are_never_passed_on_as_black(
    kind: str, options: dict[str, object]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = _bytes(Image.fromarray(noise), kind, **options)
    middle = len(data) // 2
    damaged = data[:middle] + bytes(range(256)) + data[middle + 256 :]
    for broken in (damaged, data[:middle], data[:middle] + bytes(len(data) - middle)):
        with pytest.raises(InputError, match="damaged or cut off"):
            images.decode(broken)
    assert np.array_equal(images.decode(data).rgb, noise)
