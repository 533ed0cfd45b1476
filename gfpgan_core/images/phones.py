"""Optional decoders of HEIC and AVIF, the formats that phones write."""

from __future__ import annotations

from PIL import features

from gfpgan_core.errors import MissingPackageError

_INSTEAD = "save it as JPEG or PNG first"


def prepare_decoder(kind: str | None, name: str) -> None:
    """Make Pillow able to open HEIC and AVIF.

    Raises:
        MissingPackageError: what it needs isn't installed; `name` is the photo's.
    """
    if kind == "HEIC":
        try:
            import pillow_heif
        except ImportError as error:
            raise MissingPackageError(
                f"{name} is HEIC, which needs the package pillow-heif:"
                f" pip install 'gfpgan-core[heif]', or {_INSTEAD}",
                f"{name} is HEIC, which this server does not read: {_INSTEAD}",
            ) from error
        # libheif shows the picture upright, and the EXIF data then say that it is.
        pillow_heif.register_heif_opener()
    elif kind == "AVIF" and not features.check("avif"):
        raise MissingPackageError(
            f"{name} is AVIF, which needs Pillow 11.3 or later: pip install -U pillow, or"
            f" {_INSTEAD}",
            f"{name} is AVIF, which this server does not read: {_INSTEAD}",
        )
