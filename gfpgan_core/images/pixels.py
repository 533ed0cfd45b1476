"""Convert Pillow images of any mode to upright 8-bit sRGB, in bands, to save memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from gfpgan_core.bounds import MAX_PROFILE_BYTES
from gfpgan_core.errors import InputError
from gfpgan_core.images.photo import ImageU8
from gfpgan_core.images.profile import without_elements

_BAND_PIXELS = 2**21
_EXIF_ORIENTATION = 0x0112
_WHITE_IS_ZERO = 0
_TIFF_PHOTOMETRIC, _TIFF_BITS, _TIFF_SAMPLE_FORMAT = 262, 258, 339
_TIFF_COMPRESSION, _TIFF_PLANES = 259, 284
_UNSIGNED, _UNCOMPRESSED, _SEPARATE = 1, 1, 2

_Band = tuple[ImageU8, ImageU8 | None]

# EXIF's orientation -> what shows the picture upright.
_UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


def check_samples(image: Image.Image, name: str) -> None:
    """Refuse samples without a defined black and white, before they are decoded.

    Raises:
        InputError: floating-point, signed, integers above 16 bit, or in an order that Pillow takes
            for another one.
    """
    tags = _tiff_tags(image)
    advice = "they have no defined black and white: save it as 8 or 16 bit"
    if image.mode == "F":
        raise InputError(f"{name} has floating-point pixels; {advice}")
    sample_format = _first(tags.get(_TIFF_SAMPLE_FORMAT), _UNSIGNED)
    bits = _first(tags.get(_TIFF_BITS), 8)
    if sample_format != _UNSIGNED:
        raise InputError(f"{name} has pixels of {bits} bit, signed; {advice}")
    if image.mode == "I" and tags:
        raise InputError(f"{name} has pixels of {bits} bit; {advice}")
    is_plain = _first(tags.get(_TIFF_COMPRESSION), _UNCOMPRESSED) == _UNCOMPRESSED
    if bits > 8 and is_plain and _first(tags.get(_TIFF_PLANES), 1) == _SEPARATE:
        raise InputError(
            f"{name} is a TIFF of {bits} bit in separate planes, which is not read: save it as 8"
            " bit, with compression, or with the colors of a pixel side by side"
        )


def to_rgb(image: Image.Image) -> _Band:
    """Return (H, W, 3) sRGB and (H, W) alpha or None, upright.

    16-bit samples are scaled, palettes looked up, CMYK, Lab and other color profiles converted.

    Raises:
        Exception: Pillow's own, of any kind, for a damaged file.
    """
    # Read first: decoding a TIFF applies its orientation, and removes the tag.
    orientation = orientation_of(image)
    image.load()
    if image.format == "TIFF":
        orientation = 1
    convert = _converter(image)
    width, height = image.size
    rows = max(1, _BAND_PIXELS // width)
    rgb = np.empty((height, width, 3), np.uint8)
    alpha: ImageU8 | None = None
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        band, band_alpha = convert(image.crop((0, top, width, bottom)))
        rgb[top:bottom] = band
        if band_alpha is not None:
            alpha = np.empty((height, width), np.uint8) if alpha is None else alpha
            alpha[top:bottom] = band_alpha
    image.close()
    upright = _UPRIGHT.get(orientation)
    if upright is None:
        return rgb, alpha
    rgb = np.ascontiguousarray(upright(rgb))
    return rgb, None if alpha is None else np.ascontiguousarray(upright(alpha))


def orientation_of(image: Image.Image) -> int:
    """Return EXIF's orientation; 1 where it is absent or broken, as every viewer takes it."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # broken EXIF data makes Pillow raise all kinds of errors
        return 1
    return value if isinstance(value, int) else 1


def _converter(image: Image.Image) -> Callable[[Image.Image], _Band]:
    if image.mode.startswith("I"):
        return _wide_converter(image)
    to_srgb = _srgb_converter(image)
    if not image.has_transparency_data:
        return lambda band: (to_srgb(band), None)
    # The two-channel modes are converted within gray, which a gray profile may describe.
    with_alpha = {"L": "LA", "LA": "LA", "La": "LA"}.get(image.mode, "RGBA")

    def convert(band: Image.Image) -> _Band:
        band = band if band.mode == with_alpha else band.convert(with_alpha)
        alpha = np.asarray(band.getchannel("A"))
        return to_srgb(band.convert("L" if with_alpha == "LA" else "RGB")), alpha

    return convert


def _wide_converter(image: Image.Image) -> Callable[[Image.Image], _Band]:
    """Convert gray of up to 16 bits, which Pillow's own conversion would clip at 255."""
    tags = _tiff_tags(image)
    white = 2 ** min(16, max(8, _first(tags.get(_TIFF_BITS), 16))) - 1
    inverted = tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO  # Pillow inverts 8 bits and less only
    clear = image.info.get("transparency")

    def convert(band: Image.Image) -> _Band:
        wide = np.asarray(band).astype(np.int64)
        luma = np.clip((wide * 510 + white) // (2 * white), 0, 255).astype(np.uint8)
        if inverted:
            luma = 255 - luma
        alpha = np.where(wide == clear, 0, 255).astype(np.uint8) if clear is not None else None
        return np.repeat(luma[..., None], 3, axis=2), alpha

    return convert


def _srgb_converter(image: Image.Image) -> Callable[[Image.Image], ImageU8]:
    """Return the conversion of bands to sRGB; ignore a profile that is broken or doesn't fit.

    Many photos carry a damaged profile, and every viewer shows them without it.
    """
    profile = image.info.get("icc_profile")
    mode = "RGB" if image.mode in ("P", "PA", "RGBA", "RGBa") else image.mode
    mode = "L" if mode in ("LA", "La") else mode
    source: ImageCms.ImageCmsProfile | None = None
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_PROFILE_BYTES:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(without_elements(profile)))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            source = None
    if mode == "LAB" and source is None:
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if source is not None and mode in ("L", "RGB", "CMYK", "LAB"):
        try:
            transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
        else:
            return lambda band: _converted(band, mode, transform)
    return lambda band: np.asarray(band.convert("RGB"))


def _converted(band: Image.Image, mode: str, transform: ImageCms.ImageCmsTransform) -> ImageU8:
    result = ImageCms.applyTransform(band if band.mode == mode else band.convert(mode), transform)
    assert result is not None  # it isn't done in place
    return np.asarray(result)


def _tiff_tags(image: Image.Image) -> dict[int, Any]:
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return {}
    wanted = (_TIFF_PHOTOMETRIC, _TIFF_BITS, _TIFF_SAMPLE_FORMAT, _TIFF_COMPRESSION, _TIFF_PLANES)
    return {tag: tags[tag] for tag in wanted if tag in tags}


def _first(value: Any, absent: int) -> int:
    """Return a tag's number, or the first of several."""
    if isinstance(value, tuple):
        value = value[0] if value else absent
    return value if isinstance(value, int) else absent
