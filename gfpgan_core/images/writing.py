"""Encode pixels and the kept metadata as image files, and write them."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from PIL import Image

from gfpgan_core.errors import InputError
from gfpgan_core.files import whole_file
from gfpgan_core.formats import ENCODINGS, WRITABLE, Encoding, Format
from gfpgan_core.images.photo import ImageU8, Photo

_MAX_INTEGER_DPI = 65_535  # JFIF has 16 bits for it

_EXIF_X_RESOLUTION, _EXIF_Y_RESOLUTION, _EXIF_RESOLUTION_UNIT = 282, 283, 296
_EXIF_INCHES = 2


def chosen_format(photo: Photo, wanted: str) -> Format:
    """Return the format of that name; `auto` is the photo's own, or PNG if it has transparency.

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
    """Return the image file, without color channels if they are equal.

    Args:
        rgb: (H, W, 3).
        alpha: (H, W). Where the format has none, transparent parts are laid on white.
        dpi: across and down.
        exif: what `Metadata.exif` returns.

    Raises:
        InputError: the format can't hold the size.
    """
    encoding = ENCODINGS[file_format]
    height, width = rgb.shape[:2]
    limit = encoding.max_side_px
    if limit is not None and max(height, width) > limit:
        raise InputError(
            f"the result is {width}x{height} px; {file_format} holds at most {limit} px a side:"
            " choose another format"
        )
    channels_equal = (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    image = Image.fromarray(rgb[..., 0] if channels_equal else rgb)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
        if not encoding.has_alpha:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return _encoded(image, encoding, dpi, exif or Image.Exif())


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
    image: Image.Image, encoding: Encoding, dpi: tuple[float, float] | None, exif: Image.Exif
) -> bytes:
    resolution: dict[str, Any] = {}
    if dpi and encoding.dpi == "exif":
        exif = _with_resolution(exif, dpi)
    elif dpi and encoding.dpi == "integer":
        resolution = {"dpi": tuple(min(math.floor(d + 0.5), _MAX_INTEGER_DPI) for d in dpi)}
    elif dpi:
        resolution = {"dpi": dpi}
    kept = {"exif": exif.tobytes()} if len(exif) else {}
    buffer = io.BytesIO()
    image.save(buffer, encoding.pillow, **encoding.options, **resolution, **kept)
    return buffer.getvalue()


def _with_resolution(kept: Image.Exif, dpi: tuple[float, float]) -> Image.Exif:
    """Return a copy of EXIF data with the resolution."""
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
