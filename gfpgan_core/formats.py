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
"""How many of a file's first bytes `kind_of` needs."""

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
_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)

# Raw files that begin as TIFF does: what Pillow finds in them is a thumbnail.
RAW_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".pef", ".rw2", ".srw", ".3fr", ".iiq")


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


def not_read(name: str, kind: str) -> str:
    """Return the error text for a picture of a kind that is not read."""
    return f"{name} is {kind}, which is not read: save it as JPEG or PNG first"
