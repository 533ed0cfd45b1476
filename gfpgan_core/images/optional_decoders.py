"""Decoders of HEIC and AVIF, which need a package or a newer Pillow."""

from __future__ import annotations

from PIL import features

from gfpgan_core.errors import MissingPackageError

_INSTEAD = "save it as JPEG or PNG first"


def prepare_decoder(kind: str | None, name: str) -> None:
    """Register the decoder that a photo needs, or check that Pillow has it.

    Args:
        kind: what `formats.kind_of` says of the photo; others than HEIC and AVIF need nothing.
        name: the photo's, for the error text.

    Raises:
        MissingPackageError: the decoder isn't installed.
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
