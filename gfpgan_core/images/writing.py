"""Encode pixels and the kept metadata as image files, and write them."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from PIL import Image

from gfpgan_core.errors import InputError
from gfpgan_core.files import whole_file
from gfpgan_core.formats import WRITABLE, Format
from gfpgan_core.images.photo import ImageU8, Photo

_MAX_SIDE_PX: dict[Format, int] = {"webp": 16_383, "jpg": 65_500}
_MAX_JPEG_DPI = 65_535  # JFIF has 16 bits for it

_EXIF_X_RESOLUTION, _EXIF_Y_RESOLUTION, _EXIF_RESOLUTION_UNIT = 282, 283, 296
_EXIF_INCHES = 2


def chosen_format(photo: Photo, wanted: str) -> Format:
    """Return the format that `auto`, `png`, `jpg` or `webp` means; transparency asks for PNG.

    Raises:
        InputError: another word.
    """
    if wanted == "auto":
        return "png" if photo.alpha is not None else photo.format
    for name in WRITABLE:
        if wanted == name:
            return name
    raise InputError(f"output format is {wanted!r}; allowed: auto, {', '.join(WRITABLE)}")


def encode(
    rgb: ImageU8,
    alpha: ImageU8 | None,
    file_format: Format,
    dpi: tuple[float, float] | None = None,
    exif: Image.Exif | None = None,
) -> bytes:
    """Return the image file. JPEG has no alpha: transparent parts are laid on white.

    Of metadata, `exif` is what `Metadata.exif` returns.

    Raises:
        InputError: the format can't hold the size.
    """
    height, width = rgb.shape[:2]
    limit = _MAX_SIDE_PX.get(file_format, 0)
    if limit and max(height, width) > limit:
        raise InputError(
            f"the result is {width}x{height} px; {file_format} holds at most {limit} px a side:"
            " choose another format"
        )
    channels_equal = (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    image = Image.fromarray(rgb[..., 0] if channels_equal else rgb)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
        if file_format == "jpg":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return _encoded(image, file_format, dpi, exif or Image.Exif())


def preview_size_wh(rgb: ImageU8, max_side_px: int) -> tuple[int, int]:
    """Return (width, height) of an (H, W, 3) picture, reduced until it has at most such sides."""
    height, width = rgb.shape[:2]
    shrunk = min(1.0, max_side_px / max(width, height))
    return max(1, round(width * shrunk)), max(1, round(height * shrunk))


def preview(rgb: ImageU8, alpha: ImageU8 | None, size_wh: tuple[int, int]) -> bytes:
    """Return a picture as a small JPEG file of the size given, for looking at; no metadata."""
    image = Image.fromarray(rgb).resize(size_wh, Image.Resampling.LANCZOS)
    if alpha is not None:
        mask = Image.fromarray(alpha).resize(size_wh, Image.Resampling.LANCZOS)
        image = Image.composite(image, Image.new("RGB", size_wh, "white"), mask)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return buffer.getvalue()


def _encoded(
    image: Image.Image, file_format: Format, dpi: tuple[float, float] | None, exif: Image.Exif
) -> bytes:
    buffer = io.BytesIO()
    about: dict[str, Any] = {"dpi": dpi} if dpi else {}
    if file_format == "webp" and dpi:
        exif = _with_resolution(exif, dpi)
    kept = {"exif": exif.tobytes()} if len(exif) else {}
    if file_format == "png":
        # Level 6 takes 3 times as long for 4 % less.
        image.save(buffer, "PNG", compress_level=3, **about, **kept)
    elif file_format == "jpg":
        if dpi:
            about = {"dpi": tuple(min(math.floor(d + 0.5), _MAX_JPEG_DPI) for d in dpi)}
        # 4:4:4: red lips keep their edges.
        image.save(buffer, "JPEG", quality=95, subsampling=0, **about, **kept)
    else:
        image.save(buffer, "WEBP", quality=95, **kept)
    return buffer.getvalue()


def _with_resolution(kept: Image.Exif, dpi: tuple[float, float]) -> Image.Exif:
    """Return EXIF data with the resolution: WebP has no field of its own for it."""
    exif = Image.Exif()
    exif.update(kept)
    exif[_EXIF_X_RESOLUTION], exif[_EXIF_Y_RESOLUTION] = dpi
    exif[_EXIF_RESOLUTION_UNIT] = _EXIF_INCHES
    return exif


def write(path: Path, data: bytes) -> None:
    """Write a whole file or none.

    Raises:
        InputError: the folder can't be written.
    """
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(data)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror or error}") from error
