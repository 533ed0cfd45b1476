"""Open untrusted files by Pillow; refuse those of too high a cost before a pixel is decoded."""

from __future__ import annotations

import io
import re
import warnings
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from gfpgan_core.bounds import (
    MAX_ANIMATION_MEGAPIXELS,
    MAX_HEIF_MEGAPIXELS,
    MAX_INPUT_MEGAPIXELS,
    MAX_JPEG_SCANS,
    MAX_PAGES,
    MAX_RLE_MEGAPIXELS,
    MAX_SIDE_PX,
    MAX_STRIP_SCANS,
    MAX_VIEWS,
    MAX_WEBP_MEGAPIXELS,
    MIN_SIDE_PX,
)
from gfpgan_core.errors import InputError
from gfpgan_core.formats import (
    HEAD_BYTES,
    LONG_HEAD_BYTES,
    READABLE,
    READABLE_TEXT,
    described,
    kind_of,
    not_read,
)
from gfpgan_core.images.optional_decoders import prepare_decoder

# Only these decoders are given untrusted bytes. JPEG's also opens MPO, as many phones write.
_DECODERS = tuple(kind.upper() for kind in READABLE if kind != "HEIC")
# For the container of HEIC, which may hold AVIF as well.
_HEIF_DECODERS = ("HEIF", "AVIF")
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")

_START_OF_SCAN, _END_OF_IMAGE, _START_OF_IMAGE = 0xDA, 0xD9, 0xD8
# In a scan's data, a byte 255 that is a value is followed by 0, a restart mark by D0 to D7.
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)

_TIFF_JPEG = ("jpeg", "tiff_jpeg")
_TIFF_PHOTOMETRIC, _TIFF_BITS, _TIFF_SAMPLE_FORMAT, _TIFF_COMPRESSION = 262, 258, 339, 259
_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT, _TIFF_ROWS_PER_STRIP = 322, 323, 278
_TIFF_STRIP_BYTES, _TIFF_TILE_BYTES = 279, 325


def check_input_size(width: int, height: int, name: str = "the image") -> None:
    """Refuse sizes that can't be restored, before a pixel is decoded.

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


def open_checked(data: bytes, name: str, page: int) -> Image.Image:
    """Return the image at its page, opened but not decoded.

    Raises:
        InputError: no image, too large, too small, without such a page, or too costly.
    """
    image = _opened(io.BytesIO(data), name)
    check_input_size(*image.size, name=name)
    if page != 1:
        _seek(image, page, name)
        check_input_size(*image.size, name=name)
    _check_cost(image, data, name)
    return image


def size_of(file: BinaryIO, name: str = "the image") -> tuple[int, int]:
    """Return width and height from an image file's header; no pixel is decoded.

    Raises:
        InputError: no image, or one of a size that is refused. `name` is used in its text.
    """
    width, height = _opened(file, name).size
    check_input_size(width, height, name)
    return width, height


def _opened(file: BinaryIO, name: str) -> Image.Image:
    kind = kind_of(file.read(HEAD_BYTES))
    file.seek(0)
    prepare_decoder(kind, name)
    decoders = _HEIF_DECODERS if kind == "HEIC" else _DECODERS
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images, for which our own limit is stricter, and of odd tags.
            warnings.simplefilter("ignore")
            return Image.open(file, formats=decoders)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{name} has too many pixels: at most {MAX_INPUT_MEGAPIXELS} megapixels are allowed;"
            " resize it first"
        ) from error
    except Exception as error:  # broken tags make Pillow raise all kinds of errors
        file.seek(0)
        raise InputError(_why_not_opened(file.read(LONG_HEAD_BYTES), file, name)) from error


def _why_not_opened(head: bytes, file: BinaryIO, name: str) -> str:
    kind = kind_of(head)
    if kind is None:
        what = described(head)
        return f"{name} is {f'{what}, ' if what else ''}no image: allowed are {READABLE_TEXT}"
    if kind not in READABLE:
        return not_read(name, kind)
    variant = _tiff_variant(file) if kind == "TIFF" else ""
    if variant:
        return f"{name} is a TIFF of {variant}, which is not read: save it as 8 or 16 bit RGB"
    return f"{name} begins as a {kind} file, but is damaged or cut off near its start"


def _tiff_variant(file: BinaryIO) -> str:
    """Return what a TIFF's directory says of its pixels; nothing where that can't be read."""
    try:
        file.seek(0)
        directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            directory.load(file)
        numbers = [int(n) for n in tuple(directory[_TIFF_BITS])[:4]]
        photometric = int(directory[_TIFF_PHOTOMETRIC])
        sample_format = int(next(iter(directory.get(_TIFF_SAMPLE_FORMAT, (1,)))))
        compression = int(directory.get(_TIFF_COMPRESSION, 1))
    except Exception:  # a damaged directory: whatever there is
        return ""
    sample = {2: " signed", 3: " floating-point"}.get(sample_format, "")
    bits = "+".join(map(str, numbers))
    return f"{bits} bit{sample} (photometric {photometric}, compression {compression})"


def _seek(image: Image.Image, page: int, name: str) -> None:
    pages = _page_count(image)
    if not 1 <= page <= pages:
        raise InputError(
            f"{name} has {pages} page{'s' * (pages != 1)}; page {page} is not there:"
            f" choose 1 to {pages}"
        )
    width, height = image.size
    megapixels = page * width * height / 1e6
    if image.format in _ANIMATED and megapixels > MAX_ANIMATION_MEGAPIXELS:
        raise InputError(
            f"{name}: page {page} of {width}x{height} px builds on {megapixels:.0f} megapixels; at"
            f" most {MAX_ANIMATION_MEGAPIXELS} are allowed: choose an earlier one"
        )
    try:
        image.seek(page - 1)
    except Exception as error:
        raise InputError(f"{name}: page {page} is damaged or cut off") from error


def pages_in(data: bytes) -> int:
    """Return how many pages or frames there are in a file that `open_checked` took."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _page_count(_opened(io.BytesIO(data), "the image"))


def _page_count(image: Image.Image) -> int:
    """Return how many pages or frames a file has; at most `MAX_PAGES` of a TIFF are counted.

    Leaves a TIFF at its last page, a JPEG file of several pictures after its last view.
    """
    if image.format in _ANIMATED:
        try:
            return int(getattr(image, "n_frames", 1))
        except Exception:  # a damaged later frame
            return 1
    if image.format not in ("TIFF", "MPO"):
        return 1
    count, size = 1, image.size
    try:
        while count < (MAX_PAGES if image.format == "TIFF" else MAX_VIEWS):
            image.seek(count)
            if image.format == "MPO" and image.size != size:  # a preview, or a gain map
                break
            count += 1
    except Exception:  # EOFError after the last; anything after a damaged one
        return count
    return count


def _check_cost(image: Image.Image, data: bytes, name: str) -> None:
    """Refuse what takes long or much memory for its size.

    Raises:
        InputError: with what to do.
    """
    megapixels = image.size[0] * image.size[1] / 1e6
    if image.format == "WEBP" and megapixels > MAX_WEBP_MEGAPIXELS:
        raise InputError(
            f"{name} has {megapixels:.1f} megapixels; a WebP file may have at most"
            f" {MAX_WEBP_MEGAPIXELS}: save it as JPEG or PNG first"
        )
    if image.format in _HEIF_DECODERS and megapixels > MAX_HEIF_MEGAPIXELS:
        raise InputError(
            f"{name} has {megapixels:.1f} megapixels; a HEIC or AVIF file may have at most"
            f" {MAX_HEIF_MEGAPIXELS}: save it as JPEG or PNG first"
        )
    if image.format == "BMP" and _decoder(image) == "bmp_rle" and megapixels > MAX_RLE_MEGAPIXELS:
        raise InputError(
            f"{name} has {megapixels:.1f} megapixels; a run-length encoded BMP may have at most"
            f" {MAX_RLE_MEGAPIXELS}: save it as JPEG or PNG first"
        )
    start = int(getattr(image, "offset", 0)) if image.format == "MPO" else 0
    if image.format in ("JPEG", "MPO") and _scans(data, start) > MAX_JPEG_SCANS:
        raise InputError(
            f"{name} has more than {MAX_JPEG_SCANS} scans, which no camera writes: save it anew"
        )
    if image.format == "TIFF" and isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image, data, name)


def _decoder(image: Image.Image) -> str:
    tiles = getattr(image, "tile", [])
    return str(tiles[0][0]) if tiles else ""


def _scans(data: bytes, start: int) -> int:
    """Count the scans of the JPEG that begins at `start`, up to its end or one too many."""
    count, at = 0, start + 2
    while count <= MAX_JPEG_SCANS and (found := _JPEG_MARKER.search(data, at)):
        marker, at = found.group(1)[0], found.end()
        if marker == _END_OF_IMAGE:
            break
        if marker in (_START_OF_IMAGE, 0x01):  # these have no length
            continue
        count += marker == _START_OF_SCAN
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return count


def _check_tiff(image: TiffImagePlugin.TiffImageFile, data: bytes, name: str) -> None:
    """Refuse tiles larger than the image, and JPEG parts of many scans."""
    tags = image.tag_v2
    width, height = image.size if image.size else (0, 0)
    try:
        if _TIFF_TILE_WIDTH in tags:
            part_wh = int(tags[_TIFF_TILE_WIDTH]), int(tags[_TIFF_TILE_HEIGHT])
            sizes = tags.get(_TIFF_TILE_BYTES, ())
        else:
            rows = int(tags.get(_TIFF_ROWS_PER_STRIP, max(width, height)))
            part_wh = max(width, height), min(rows, max(width, height))
            sizes = tags.get(_TIFF_STRIP_BYTES, ())
        bytes_in_parts = sum(sizes)
        columns, rows_of_parts = -(-width // part_wh[0]), -(-height // part_wh[1])
        parts = max(1, columns * rows_of_parts)
    except (TypeError, ValueError, ZeroDivisionError, LookupError) as error:
        raise InputError(f"{name} is a damaged TIFF: its parts have no size") from error
    if max(part_wh) > 2 * MAX_SIDE_PX or part_wh[0] * part_wh[1] > 2e6 * MAX_INPUT_MEGAPIXELS:
        raise InputError(f"{name} is a damaged TIFF: its tiles are {part_wh[0]}x{part_wh[1]} px")
    compression = image.info.get("compression")
    if compression in _TIFF_JPEG and (
        # Parts that share their bytes would be decoded once for each.
        bytes_in_parts > len(data)
        or data.count(b"\xff\xda") > MAX_STRIP_SCANS * parts + MAX_JPEG_SCANS
    ):
        raise InputError(f"{name} is a TIFF of too many JPEG scans: save it anew")
