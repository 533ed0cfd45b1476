"""Bytes to pixels to tensors and back: the only place that knows formats, BGR or `/ 127.5`."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from gfpgan_core.config import MAX_INPUT_MEGAPIXELS, MAX_SIDE_PX, MIN_SIDE_PX
from gfpgan_core.errors import InputError
from gfpgan_core.files import whole_file
from gfpgan_core.formats import HEAD_BYTES, READABLE, kind_of, not_read

ImageU8 = NDArray[np.uint8]
Format = Literal["png", "jpg", "webp"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Only these decoders are given strangers' bytes. JPEG's also opens MPO, as many phones write.
_DECODERS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
_FORMAT_OF: dict[str, Format] = {"JPEG": "jpg", "MPO": "jpg", "WEBP": "webp"}  # the rest: png

_MAX_WEBP_SIDE_PX = 16383


@dataclass(frozen=True)
class Photo:
    """A decoded image, upright and in sRGB."""

    rgb: ImageU8
    """(H, W, 3), 0..255."""
    alpha: ImageU8 | None = None
    """(H, W), 0..255; None: opaque."""
    format: Format = "png"
    """What `auto` writes: the input's own format where it is one of the three, else PNG."""

    @cached_property
    def is_grey(self) -> bool:
        """Whether the photo is black-and-white: channels equal but for JPEG's rounding."""
        red, green, blue = cv2.split(self.rgb)
        coloured = (cv2.absdiff(red, green) > 2) | (cv2.absdiff(green, blue) > 2)
        return bool(coloured.mean() <= 0.005)


def decode(data: bytes, name: str = "the image") -> Photo:
    """The photo in a file's bytes, whatever the file is called.

    16-bit and palette images become 8-bit, CMYK and other profiles sRGB; the camera's turn is
    applied; of an animation the first frame counts.

    Raises:
        InputError: no image, damaged, too large or too small. `name` is used in its text.
    """
    if not data:
        raise InputError(
            f"{name} is empty (0 bytes): give a JPEG, PNG, WebP, BMP, TIFF or GIF file"
        )
    try:
        with warnings.catch_warnings():
            # Our own bound below is stricter, and an error.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_DECODERS)
        check_input_size(*image.size, name=name)
        image.load()
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name} has too many pixels: at most {MAX_INPUT_MEGAPIXELS} megapixels are allowed;"
            " resize it first"
        ) from error
    except UnidentifiedImageError as error:
        kind = kind_of(data[:HEAD_BYTES])
        if kind is not None and kind not in READABLE:
            raise InputError(not_read(name, kind)) from error
        raise InputError(
            f"{name} is no image, or cut off near its start: allowed are JPEG, PNG, WebP, BMP, TIFF"
            " and GIF"
        ) from error
    except InputError:
        raise  # it is a ValueError, but says what is wrong already
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(f"{name} is damaged or cut off: {error}") from error
    file_format = _FORMAT_OF.get(image.format or "", "png")
    try:
        return _to_photo(image, file_format)
    except (OSError, ValueError, ImageCms.PyCMSError) as error:
        raise InputError(f"{name} can't be converted to RGB: {error}") from error


def size_of(file: BinaryIO, name: str = "the image") -> tuple[int, int]:
    """Return width and height from an image file's header; no pixel is decoded.

    Raises:
        InputError: no image, or one of a size that is refused. `name` is used in its text.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            width, height = Image.open(file, formats=_DECODERS).size
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is no image, or damaged at its start") from error
    check_input_size(width, height, name)
    return width, height


def check_input_size(width: int, height: int, name: str = "the image") -> None:
    """Refuses sizes that can't be restored, before a pixel is decoded.

    Raises:
        InputError: a side or the area is out of bounds.
    """
    if min(width, height) < MIN_SIDE_PX:
        raise InputError(
            f"{name} is {width}x{height} px; each side must have at least {MIN_SIDE_PX} px"
        )
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_INPUT_MEGAPIXELS * 1e6:
        raise InputError(
            f"{name} is {width}x{height} px; allowed are at most {MAX_INPUT_MEGAPIXELS} megapixels"
            f" and {MAX_SIDE_PX} px a side: resize it first"
        )


def _to_photo(image: Image.Image, file_format: Format) -> Photo:
    profile = image.info.get("icc_profile")
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it as 8 or 16 bit")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip at 255
        wide = np.asarray(image).astype(np.int64)
        luma = np.clip((wide + 128) // 257, 0, 255).astype(np.uint8)
        return Photo(np.repeat(luma[..., None], 3, axis=2), None, file_format)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode in ("1", "P"):
        image = image.convert("RGB")
    image = _to_srgb(image, profile)
    return Photo(np.array(image), alpha, file_format)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB; one whose profile is broken or of another kind is taken as it is."""
    if profile and image.mode in ("L", "RGB", "CMYK", "LAB"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # many photos carry a damaged profile, and every viewer shows them without it
    return image if image.mode == "RGB" else image.convert("RGB")


def read(path: Path, name: str | None = None) -> Photo:
    """The photo in a file, called `name` in error texts.

    Raises:
        InputError: as `decode`, or the file can't be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    return decode(data, name or path.name)


def read_rgb(path: Path) -> ImageU8:
    """The (H, W, 3) pixels of a file."""
    return read(path).rgb


def chosen_format(photo: Photo, wanted: str) -> Format:
    """The format that `auto`, `png`, `jpg` or `webp` means for a photo; transparency asks for PNG.

    Raises:
        InputError: another word.
    """
    if wanted == "auto":
        return "png" if photo.alpha is not None else photo.format
    if wanted not in ("png", "jpg", "webp"):
        raise InputError(f"output format is {wanted!r}; allowed: auto, png, jpg, webp")
    return wanted  # type: ignore[return-value]


def encode(rgb: ImageU8, alpha: ImageU8 | None, file_format: Format) -> bytes:
    """The image file. JPEG has no alpha: transparent parts are laid on white.

    Raises:
        InputError: the format can't hold the size.
    """
    height, width = rgb.shape[:2]
    if file_format == "webp" and max(height, width) > _MAX_WEBP_SIDE_PX:
        raise InputError(
            f"the result is {width}x{height} px; WebP holds at most {_MAX_WEBP_SIDE_PX} px a side:"
            " use png or jpg"
        )
    channels_equal = (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 0] == rgb[..., 2]).all()
    image = Image.fromarray(rgb[..., 0] if channels_equal else rgb)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
        if file_format == "jpg":
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    buffer = io.BytesIO()
    if file_format == "png":
        image.save(buffer, "PNG", compress_level=3)  # 6 takes 3 times as long for 4 % less
    elif file_format == "jpg":
        image.save(buffer, "JPEG", quality=95, subsampling=0)  # 4:4:4: red lips keep their edges
    else:
        image.save(buffer, "WEBP", quality=95)
    return buffer.getvalue()


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


def grey(image: ImageU8) -> ImageU8:
    """The image's luma (BT.601) in all three channels."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB), np.uint8)


def to_pm1(image: ImageU8) -> Tensor:
    """(H, W, 3) 0..255 -> (3, H, W) float32 -1..1."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(planes).float().div_(127.5).sub_(1)


def from_pm1(image: Tensor) -> ImageU8:
    """(3, H, W) about -1..1 -> (H, W, 3) 0..255: clipped and rounded."""
    levels = image.float().clamp(-1, 1).add(1).mul(127.5).round().byte()
    return np.asarray(levels.permute(1, 2, 0).cpu().numpy(), np.uint8)
