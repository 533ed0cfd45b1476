"""The kinds of image files: which are read and written, and how the first bytes tell them.

No decoder and no torch: the command line looks at folders before it loads anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gfpgan_core.errors import InputError

Format = Literal["png", "jpg", "webp"]
"""What results are written as: the keys of `ENCODINGS`."""


@dataclass(frozen=True)
class Encoding:
    """How results are written in one format, and what the format can hold."""

    pillow: str
    """Pillow's name of the format."""
    options: Mapping[str, int | str]
    """Keyword arguments of Pillow's `save`."""
    dpi: Literal["float", "integer", "exif"]
    """How the resolution is stored: in a field of its own, or where there is none in EXIF."""
    max_side_px: int | None = None
    """None: as many pixels as a result can have."""
    has_alpha: bool = True
    other_suffixes: tuple[str, ...] = ()
    """Besides a dot and the format's name."""
    default_for: tuple[str, ...] = ()
    """Photos whose results get this format where none is asked for, by Pillow's names of theirs."""


ENCODINGS: Mapping[Format, Encoding] = {
    # Level 6 takes 3 times as long for 4 % less.
    "png": Encoding("PNG", {"compress_level": 3}, "float", default_for=("PNG",)),
    "jpg": Encoding(
        "JPEG",
        {"quality": 95, "subsampling": 0},  # 4:4:4: red lips keep their edges
        "integer",
        max_side_px=65_500,
        has_alpha=False,
        other_suffixes=(".jpeg",),
        # What phones write becomes JPEG: a PNG of as many pixels is ten times as large.
        default_for=("JPEG", "MPO", "HEIF", "AVIF"),
    ),
    "webp": Encoding("WEBP", {"quality": 95}, "exif", max_side_px=16_383, default_for=("WEBP",)),
}

WRITABLE: tuple[Format, ...] = tuple(ENCODINGS)
FORMAT_OF_SUFFIX: dict[str, Format] = {
    suffix: name
    for name, encoding in ENCODINGS.items()
    for suffix in (*encoding.other_suffixes, f".{name}")
}
_DEFAULT_FORMATS = {
    pillow: name for name, encoding in ENCODINGS.items() for pillow in encoding.default_for
}


def default_format(pillow: str | None) -> Format:
    """Return the format of a result where none is asked for, by Pillow's name of the photo's."""
    return _DEFAULT_FORMATS.get(pillow or "", "png")


HEAD_BYTES = 32
"""How many of a file's first bytes `kind_of` needs."""
LONG_HEAD_BYTES = 4096
"""How many `described` needs."""

READABLE = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF", "HEIC", "AVIF")
"""The kinds that `images.decode` reads; HEIC where pillow-heif is installed."""

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".mpo", ".png", ".tif", ".tiff", ".webp"),
)
"""What such files are called; their content decides."""

READABLE_TEXT = f"{', '.join(READABLE[:-1])} and {READABLE[-1]}"

# The first bytes of each kind. Those that are not read are named in the refusal.
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "JPEG": (b"\xff\xd8\xff",),  # and MPO, as many phones write
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # the last two: BigTIFF
    "GIF": (b"GIF87a", b"GIF89a"),
    "camera raw": (b"FUJIFILMCCD-RAW", b"IIRO", b"IIU\0"),
    "JPEG XL": (b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n",),
    "Photoshop": (b"8BPS",),
}
# Bytes 8 to 11 of a RIFF container, or of the first box of an ISO base media file.
_BRANDS: dict[str, tuple[bytes, ...]] = {
    "WebP": (b"WEBP",),
    "AVIF": (b"avif", b"avis"),
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"),
    "camera raw": (b"crx ",),
}
_WEB_PAGE = (b"<!doctype html", b"<html", b"<head", b"<!--")
# What else people send in a photo's place, by the first bytes in lower case.
_OTHERS: dict[str, tuple[bytes, ...]] = {
    "a PDF": (b"%pdf-",),
    "an archive": (b"pk\x03\x04", b"\x1f\x8b", b"rar!", b"7z\xbc\xaf"),
    "a video": (b"\x1ae\xdf\xa3", b"\0\0\1\xba", b"\0\0\1\xb3"),
}
_SVG = re.compile(rb"<(svg:)?svg[\s/>]")
# What may stand before the first element of a page or a drawing, by its start and its end; a
# DOCTYPE may hold declarations between [ and ].
_MARKUP_PROLOG = ((b"<?", b"?>"), (b"<!--", b"-->"), (b"<!", b">"), (b"]", b">"))
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)

# Raw files that begin as TIFF does: what Pillow finds in them is a thumbnail.
RAW_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".pef", ".rw2", ".srw", ".3fr", ".iiq")


def format_of(path: Path) -> Format:
    """Return the format of a result's file, by its suffix.

    Raises:
        InputError: the suffix is that of no format that is written.
    """
    found = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if found is None:
        allowed = ", ".join(FORMAT_OF_SUFFIX)
        raise InputError(f"{path}: results are written with the suffixes {allowed}")
    return found


def kind_of(head: bytes) -> str | None:
    """Return what kind of image a file is whose first bytes are given; None: no image."""
    for kind, signatures in _SIGNATURES.items():
        if head.startswith(signatures):
            return kind
    if head.startswith(b"RIFF") or head[4:8] == b"ftyp":
        for kind, brands in _BRANDS.items():
            if head[8:12] in brands:
                return kind
    # "BM" alone begins many a text.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    return None


def described(head: bytes) -> str:
    """Return what a file is that is no image, such as `a web page`; empty: not known.

    `LONG_HEAD_BYTES` of it are enough for what drawing programs write before the first element.
    """
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] == b"AVI "):
        return "a video"
    element = _first_element(head)
    if _SVG.match(element):
        return "an SVG drawing"
    if is_web_page(head) or is_web_page(element):
        return "a web page"
    start = _text_start(head)
    return next((what for what, starts in _OTHERS.items() if start.startswith(starts)), "")


def is_web_page(head: bytes) -> bool:
    """Return whether a file begins as a web page, which often stands in a download's place."""
    return _text_start(head).startswith(_WEB_PAGE)


def _first_element(head: bytes) -> bytes:
    """Return a text from its first element on, in lower case; empty where it comes later."""
    text = _text_start(head)
    while end := next((end for start, end in _MARKUP_PROLOG if text.startswith(start)), b""):
        text = text.partition(end)[2].lstrip()
    return text


def _text_start(head: bytes) -> bytes:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()


def not_read(name: str, kind: str) -> str:
    """Return the error text for a picture of a kind that is not read."""
    return f"{name} is {kind}, which is not read: save it as JPEG or PNG first"
