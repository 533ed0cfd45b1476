"""Decoders of the formats that phones write, which not every installation has."""

from __future__ import annotations

from PIL import features

from gfpgan_core.errors import InputError

_INSTEAD = "or save it as JPEG or PNG first"


def prepare_decoder(kind: str | None, name: str) -> None:
    """Make Pillow able to open HEIC and AVIF.

    Raises:
        InputError: what it needs isn't installed; `name` is the photo's.
    """
    if kind == "HEIC":
        try:
            import pillow_heif
        except ImportError as error:
            raise InputError(
                f"{name} is HEIC, which needs the package pillow-heif:"
                f" pip install 'gfpgan-core[heif]', {_INSTEAD}"
            ) from error
        # libheif shows the picture upright, and the EXIF data then say that it is.
        pillow_heif.register_heif_opener()
    elif kind == "AVIF" and not features.check("avif"):
        raise InputError(
            f"{name} is AVIF, which needs Pillow 11.3 or later: pip install -U pillow, {_INSTEAD}"
        )
