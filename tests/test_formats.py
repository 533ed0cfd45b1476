from __future__ import annotations

import io
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image, features

from gfpgan_core import images
from gfpgan_core.errors import InputError
from gfpgan_core.formats import (
    ENCODINGS,
    HEAD_BYTES,
    READABLE,
    Format,
    described,
    format_of,
    kind_of,
)


@pytest.mark.parametrize(
    ("pillow", "kind"),
    [
        *[("JPEG", "JPEG"), ("MPO", "JPEG"), ("PNG", "PNG"), ("WEBP", "WebP"), ("BMP", "BMP")],
        *[("TIFF", "TIFF"), ("GIF", "GIF"), ("AVIF", "AVIF"), ("JPEG2000", "JPEG 2000")],
        ("HEIF", "HEIC"),
    ],
)
def test_what_pillow_writes_is_told_by_its_first_bytes(pillow: str, kind: str) -> None:
    if pillow == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    if pillow == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow writes no JPEG 2000")
    if pillow == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(buffer, pillow)
    assert kind_of(buffer.getvalue()[:HEAD_BYTES]) == kind
    if kind in READABLE:
        assert images.decode(buffer.getvalue()).rgb.shape == (32, 32, 3)
    else:
        with pytest.raises(InputError, match=f"x is {kind}, which is not read: save it as JPEG"):
            images.decode(buffer.getvalue(), "x")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"BM",
        b"BMW and others" + bytes(20),
        b"RIFF\0\0\0\0WAVE",
        b"WEBPWEBPWEBP",
        b"MM",
        b"GIF",
    ],
)
def test_what_only_begins_as_an_image_does_is_none(head: bytes) -> None:
    assert kind_of(head) is None


def test_every_format_of_results_has_a_row_and_a_writer() -> None:
    assert set(ENCODINGS) == set(get_args(Format))
    Image.init()
    assert {encoding.pillow for encoding in ENCODINGS.values()} <= set(Image.SAVE)


@pytest.mark.parametrize(
    ("name", "file_format"),
    [("a.png", "png"), ("a.JPG", "jpg"), ("a.jpeg", "jpg"), ("a.b.webp", "webp")],
)
def test_a_results_suffix_is_its_format(name: str, file_format: Format) -> None:
    assert format_of(Path(name)) == file_format


@pytest.mark.parametrize("name", ["a", "a.gif", "a.auto", ".png"])
def test_another_suffix_is_refused_with_those_that_are_allowed(name: str) -> None:
    with pytest.raises(InputError, match=r"suffixes \.png, \.jpeg, \.jpg, \.webp"):
        format_of(Path(name))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html><html><head>", "a web page, "),
        (b"\xef\xbb\xbf\n <HTML lang='en'>", "a web page, "),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing, "),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing, "),
        (b"<?xml version='1.0'?><!-- Inkscape --><svg:svg\nwidth='5'>", "an SVG drawing, "),
        (
            b"<?xml version='1.0'?>\n" + b"<!-- a long word on who made it -->\n" * 9 + b"<!DOCTYPE"
            b' svg PUBLIC "-//W3C//DTD SVG 1.1//EN" [\n\t<!ENTITY ns_svg "http://www.w3.org/">\n]>'
            b"\n<svg>",
            "an SVG drawing, ",
        ),
        (b"<?xml version='1.0'?><!DOCTYPE html><html><body><svg/></body></html>", "a web page, "),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", ""),
        (b"<?xml version='1.0'?><svgs><svg/></svgs>", ""),
        (b"<?xml version='1.0'", ""),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF, "),
        (b"PK\x03\x04\x14\0\0\0", "an archive, "),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "a video, "),
        (b"\x1aE\xdf\xa3\x01\0\0\0", "a video, "),
        (b"RIFF\x24\0\0\0AVI LIST", "a video, "),
        (b"Dear sir or madam", ""),
    ],
)
def test_what_is_sent_in_a_photos_place_is_named(content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=f"^img is {what}no image: allowed are JPEG"):
        images.decode(content, "img")
    assert (kind_of(content[:HEAD_BYTES]), described(content)) == (None, what[:-2])
