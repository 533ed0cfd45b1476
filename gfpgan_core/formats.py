"""The kinds of image files: which are read and written, and how the first bytes tell them.

No decoder and no torch: the command line looks at folders before it loads anything.
"""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["png", "jpg", "webp"]
"""What results are written as."""

WRITABLE: tuple[Format, ...] = get_args(Format)
FORMAT_OF_SUFFIX: dict[str, Format] = {".jpeg": "jpg", **{f".{name}": name for name in WRITABLE}}

HEAD_BYTES = 32
"""How much of a file `kind_of` looks at."""

READABLE = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF")
"""The kinds that `images.decode` reads."""

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg"),
    *(".mpo", ".png", ".tif", ".tiff", ".webp"),
)
"""What such files are called; their content decides."""

READABLE_TEXT = f"{', '.join(READABLE[:-1])} and {READABLE[-1]}"

# (offset, bytes, kind). JPEG's covers MPO, as many phones write.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"WEBP", "WebP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),  # BigTIFF
    (0, b"MM\0+", "TIFF"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    # Pictures that are not read: named, so that nobody takes them for no picture.
    (8, b"avif", "AVIF"),
    (8, b"avis", "AVIF"),
    *((8, brand, "HEIC") for brand in (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")),
    (8, b"crx ", "camera raw"),
    (0, b"FUJIFILMCCD-RAW", "camera raw"),
    (0, b"IIRO", "camera raw"),
    (0, b"IIU\0", "camera raw"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
)
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)

# Raw files that begin as TIFF does: what Pillow finds in them is a thumbnail.
RAW_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".pef", ".rw2", ".srw", ".3fr", ".iiq")


def kind_of(head: bytes) -> str | None:
    """Return what kind of image a file is whose first bytes are given; None: no image."""
    for offset, signature, kind in _SIGNATURES:
        if head.startswith(signature, offset) and _is_in_its_container(head, offset):
            return kind
    # "BM" alone begins many a text.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    return None


def _is_in_its_container(head: bytes, offset: int) -> bool:
    """Whether a signature that isn't at the start follows its container's: RIFF, or an ISO box."""
    return offset == 0 or head.startswith(b"RIFF") or head.startswith(b"ftyp", 4)


def not_read(name: str, kind: str) -> str:
    """Return what is said of a picture of a kind that is not read."""
    return f"{name} is {kind}, which is not read: save it as JPEG or PNG first"
