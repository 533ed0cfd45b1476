"""A thousand pictures and three hundred archives: damaged, of odd tags, and made to cost much."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import lzma
import random
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms, features

PICTURES_OF_A_SEED = 40
ARCHIVES_OF_A_SEED = 35


def pictures() -> Iterator[tuple[str, bytes]]:
    """Name and content of each; the same ones each time."""
    yield from _large_pictures()
    yield from _costly_profiles()
    for number, (name, data) in enumerate(_good_pictures()):
        for change in range(PICTURES_OF_A_SEED):
            yield f"{name}-{change}", damaged(data, random.Random(1000 * number + change))


def archives() -> Iterator[tuple[str, bytes]]:
    """Name and content of each; the same ones each time."""
    yield from _large_archives()
    for number, (name, data) in enumerate(_good_archives()):
        for change in range(ARCHIVES_OF_A_SEED):
            yield f"{name}-{change}", damaged(data, random.Random(1000 * number + change))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file cut, with bytes changed, repeated, or with numbers that are extreme."""
    result = bytearray(data)
    # Headers are where a change tells most.
    reach = rng.choice((64, 256, len(result)))
    for _ in range(rng.choice((1, 2, 8))):
        at = rng.randrange(max(1, min(reach, len(result))))
        kind = rng.randrange(5)
        if kind == 0:
            result[at] = rng.randrange(256)
        elif kind == 1:
            result[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"))
        elif kind == 2:
            del result[at : at + rng.choice((1, 7, 100))]
        elif kind == 3:
            result[at:at] = result[at : at + rng.choice((2, 50))]
        else:
            result[max(20, at) :] = result[max(20, at) : max(20, len(result) - at)]
    return bytes(result)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _good_pictures() -> Iterator[tuple[str, bytes]]:
    levels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    rgb = Image.fromarray(levels)
    wide = Image.fromarray(levels[..., 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(9), rgb.rotate(30)]}
    for mode in ("1", "L", "P", "RGB", "CMYK"):
        yield f"tiff-{mode}", _saved(rgb.convert(mode), "TIFF", compression="tiff_lzw")
    for mode in ("L", "P", "RGB", "RGBA", "LA"):
        yield f"png-{mode}", _saved(rgb.convert(mode), "PNG", exif=exif)
    yield "png-16", _saved(wide, "PNG")
    yield "tiff-16", _saved(wide, "TIFF", compression="tiff_adobe_deflate")
    yield "tiff-jpeg", _saved(rgb, "TIFF", compression="jpeg")
    yield "tiff-pages", _saved(rgb, "TIFF", **frames)
    for progressive in (False, True):
        yield f"jpeg-{progressive}", _saved(rgb, "JPEG", exif=exif, progressive=progressive)
    yield "jpeg-cmyk", _saved(rgb.convert("CMYK"), "JPEG")
    yield "mpo", _saved(rgb, "MPO", **frames)
    yield "webp", _saved(rgb, "WEBP", exif=exif)
    yield "webp-lossless", _saved(rgb.convert("RGBA"), "WEBP", lossless=True)
    yield "webp-pages", _saved(rgb, "WEBP", **frames)
    yield "gif", _saved(rgb, "GIF", **frames)
    yield "apng", _saved(rgb, "PNG", **frames)
    for mode in ("1", "P", "RGB"):
        yield f"bmp-{mode}", _saved(rgb.convert(mode), "BMP")
    if features.check("avif"):
        yield "avif", _saved(rgb, "AVIF", exif=exif, max_threads=1)
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
        yield "heic", _saved(rgb, "HEIF", exif=exif)


def _large_pictures() -> Iterator[tuple[str, bytes]]:
    """Of 64 megapixels, in less than 1 MB."""
    side = (8000, 8000)
    gray = Image.new("L", side, 120)
    progressive = _saved(gray, "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    scans = progressive[last:-2]
    for count in (1, 40, 500):
        yield f"scans-{count}", progressive[:last] + scans * count + progressive[-2:]
    yield "large-16", _saved(Image.fromarray(np.zeros(side, np.uint16)), "PNG")
    for mode in ("RGB", "P", "LA"):
        yield f"large-{mode}", _saved(gray.convert(mode), "PNG", compress_level=6)
    yield "large-tiff", _saved(gray, "TIFF", compression="tiff_adobe_deflate")
    bmp = bytearray(_saved(Image.new("P", (16, 16)), "BMP"))
    bmp[18:26], bmp[30:34] = (8000).to_bytes(4, "little") * 2, (1).to_bytes(4, "little")
    yield "rle", bytes(bmp[:1078]) + b"\x01\x01\0\0" * 4000 + b"\0\x01"


def with_elements(count: int, *, shared: bool = False) -> bytes:
    """sRGB's profile with a chain of `count` elements beside it, each a gamma of 1.1."""
    base = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = int.from_bytes(base[128:132], "big")
    curve = b"curf\0\0\0\0\0\1\0\0parf" + bytes(8) + struct.pack(">4f", 1.1, 1, 0, 0)
    element = b"cvst\0\0\0\0\0\3\0\3" + struct.pack(">II", 36, len(curve)) * 3 + curve
    first = 16 + 8 * count
    places = [first + (0 if shared else len(element) * n) for n in range(count)]
    chain = b"mpet\0\0\0\0\0\3\0\3" + struct.pack(">I", count)
    chain += b"".join(struct.pack(">II", place, len(element)) for place in places)
    chain += element * (1 if shared else count)
    table = bytearray(base[132 : 132 + 12 * tags])
    for at in range(4, len(table), 12):  # one row more comes before what these lead to
        struct.pack_into(">I", table, at, struct.unpack_from(">I", table, at)[0] + 12)
    body = base[132 + 12 * tags :] + bytes(-len(base) % 4)
    table += struct.pack(">4sII", b"D2B0", 144 + 12 * tags + len(body), len(chain))
    whole = base[:128] + struct.pack(">I", tags + 1) + table + body + chain
    return struct.pack(">I", len(whole)) + whole[4:]


def _costly_profiles() -> Iterator[tuple[str, bytes]]:
    gray = Image.new("RGB", (64, 64), (90, 90, 90))
    for name, profile in {
        "profile-of-8000-elements": with_elements(8000),
        "profile-of-one-element-100000-times": with_elements(100_000, shared=True),
    }.items():
        yield name, _saved(gray, "TIFF", icc_profile=profile)


def _tar(members: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _good_archives() -> Iterator[tuple[str, bytes]]:
    picture = _saved(Image.new("RGB", (30, 30), "red"), "PNG")
    members = {f"set/{'n' * 120 * n}{n}.png": picture for n in range(3)}
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        tar = _tar(members, format=form)
        yield f"tar-{form}", tar
        yield f"gz-{form}", gzip.compress(tar, mtime=0)
        yield f"bz2-{form}", bz2.compress(tar)
        yield f"xz-{form}", lzma.compress(tar)
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)
        yield f"zip-{method}", buffer.getvalue()


def _large_archives() -> Iterator[tuple[str, bytes]]:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        info = tarfile.TarInfo("long")
        info.type, info.size = kind, 2**27
        yield f"long-{kind.decode()}", bz2.compress(info.tobuf() + b"1" * 2**27)
    skipped = _tar({"film.mp4": bytes(2**27)})
    yield "skipped-bz2", bz2.compress(skipped)
    yield "skipped-xz", lzma.compress(skipped)
