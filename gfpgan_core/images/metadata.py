"""The metadata that a result keeps: date and camera, and the place only if asked for."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import ExifTags, Image, ImageCms

from gfpgan_core.bounds import MAX_PROFILE_BYTES

# Everything else stays behind: previews show the face as it was, makers' notes and serial numbers
# tell more than a result should.
_MAIN = ("Make", "Model", "DateTime", "Artist", "Copyright")
_CAMERA = (
    *("DateTimeOriginal", "DateTimeDigitized", "SubsecTime", "SubsecTimeOriginal"),
    *("SubsecTimeDigitized", "OffsetTime", "OffsetTimeOriginal", "OffsetTimeDigitized"),
    *("LensMake", "LensModel", "FocalLength", "FocalLengthIn35mmFilm", "FNumber"),
    *("ExposureTime", "ExposureBiasValue", "ExposureProgram", "ISOSpeedRatings", "MeteringMode"),
    *("Flash", "WhiteBalance"),
)
_MAIN_TAGS, _CAMERA_TAGS = (
    tuple(sorted(int(ExifTags.Base[name]) for name in names)) for names in (_MAIN, _CAMERA)
)
_GPS_TAGS = tuple(sorted(int(tag) for tag in ExifTags.GPS))
_DATES = (int(ExifTags.Base.DateTimeOriginal), int(ExifTags.Base.DateTimeDigitized))

_MAX_TEXT = 200  # characters, or bytes
_MAX_NUMBERS = 4

Tags = Mapping[int, Any]


@dataclass(frozen=True)
class Metadata:
    """Tags of EXIF by their numbers, and the name of the colors' profile."""

    main: Tags = field(default_factory=dict)
    camera: Tags = field(default_factory=dict)
    gps: Tags = field(default_factory=dict)
    profile: str = ""
    """The color profile that the pixels were converted from, to sRGB; empty without one."""

    @property
    def taken(self) -> str:
        """Return the date as EXIF writes it, `2026:11:25 17:21:47`; empty if the file has none."""
        dates = [self.camera[tag] for tag in _DATES if tag in self.camera]
        return str([*dates, self.main.get(int(ExifTags.Base.DateTime), "")][0])

    @property
    def device(self) -> str:
        """Return the camera's maker and model."""
        tags = (int(ExifTags.Base.Make), int(ExifTags.Base.Model))
        return " ".join(str(self.main[tag]) for tag in tags if tag in self.main)

    def exif(self, *, keep_gps: bool = False) -> Image.Exif:
        """Return the EXIF data for a result; the place only with `keep_gps`."""
        exif = Image.Exif()
        for tag, value in self.main.items():
            exif[tag] = value
        if self.camera:
            exif[int(ExifTags.IFD.Exif)] = dict(self.camera)
        if self.gps and keep_gps:
            exif[int(ExifTags.IFD.GPSInfo)] = dict(self.gps)
        return exif


def metadata_of(image: Image.Image) -> Metadata:
    """Return an opened image's metadata; tags that are damaged or of odd types are left out."""
    profile = _profile_name(image.info.get("icc_profile"))
    try:
        exif = image.getexif()
        groups = (
            _valid_tags(exif, _MAIN_TAGS, None),
            _valid_tags(exif.get_ifd(ExifTags.IFD.Exif), _CAMERA_TAGS, ExifTags.IFD.Exif),
            _valid_tags(exif.get_ifd(ExifTags.IFD.GPSInfo), _GPS_TAGS, ExifTags.IFD.GPSInfo),
        )
    except Exception:  # broken EXIF data makes Pillow raise all kinds of errors
        return Metadata(profile=profile)
    return Metadata(*groups, profile)


def _valid_tags(tags: Any, wanted: tuple[int, ...], directory: int | None) -> dict[int, Any]:
    found = {tag: _plain(tags[tag]) for tag in wanted if tag in tags}
    return {
        tag: value
        for tag, value in found.items()
        if _is_valid(value) and _fits(tag, value, directory)
    }


def _plain(value: Any) -> Any:
    return value.strip("\0 ") if isinstance(value, str) else value


def _is_valid(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return 0 < len(value) <= _MAX_TEXT
    if isinstance(value, tuple):
        return 0 < len(value) <= _MAX_NUMBERS and all(map(_is_number, value))
    return _is_number(value)


def _is_number(value: Any) -> bool:
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return False


def _fits(tag: int, value: Any, directory: int | None) -> bool:
    """Return whether Pillow can write the value: an untrusted file may hold a text for a number.

    `directory` is the tag's own IFD; None: the main one. The same number is another tag, of another
    type, in another IFD.
    """
    exif = Image.Exif()
    if directory is None:
        exif[tag] = value
    else:
        exif[directory] = {tag: value}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of too many values, say
            exif.tobytes()
    except Exception:
        return False
    return True


def _profile_name(profile: Any) -> str:
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES:
        return ""
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return ""
    return " ".join(name.split())[:_MAX_TEXT]
