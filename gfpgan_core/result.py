"""The result of restoring one photo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gfpgan_core import images
from gfpgan_core.choose import LeftAlone, describe
from gfpgan_core.damage import Damage
from gfpgan_core.detectors import Face
from gfpgan_core.formats import format_of
from gfpgan_core.images import ImageU8, Photo


@dataclass(frozen=True)
class Restoration:
    """One restored photo."""

    image: ImageU8
    """(round(h * scale), round(w * scale), 3) RGB."""
    alpha: ImageU8 | None
    """(round(h * scale), round(w * scale)), if the photo had one."""
    format: images.Format
    """The input's own format, or PNG."""
    faces: list[Face]
    """Those that were restored; with `aligned`, none is detected and the list is empty."""
    crops: list[ImageU8]
    """The aligned faces before restoration, (size, size, 3)."""
    restored_crops: list[ImageU8]
    """The same faces after it."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time spent in `detection`, `restoration`, `background` and `blending`."""
    left_alone: list[LeftAlone] = field(default_factory=list)
    """Faces that were found and not restored, with the reason."""
    scale: float = 1.0
    """Side of the result relative to the photo's."""
    is_scale_limited: bool = False
    """Whether scale `auto` had to be less than 2."""
    dpi: tuple[float, float] | None = None
    """Of the result: the photo's times the scale, so that it is printed as large."""
    page: int = 1
    pages: int = 1
    """The page or frame that was restored, from 1, of how many in the file."""
    is_interlaced: bool = False
    """Whether the photo showed the combs of interlaced video, and still does in the result."""
    damages: list[Damage] = field(default_factory=list)
    """Of each crop, before it was restored."""
    blends: list[float] = field(default_factory=list)
    """The share of each restored face."""
    upscaled: list[bool] = field(default_factory=list)
    """With `upscale_faces`: whether the background's network enlarged each restored face."""
    metadata: images.Metadata = field(default_factory=images.Metadata)
    """The photo's."""

    def counts(self) -> dict[str, float]:
        """Return the figures of the result by name."""
        counts: dict[str, float] = {
            "faces": len(self.faces),
            "left_alone": len(self.left_alone),
            "pages": self.pages,
            "scale": self.scale,
        }
        if self.blends:
            counts["blend"] = round(sum(self.blends) / len(self.blends), 2)
        if self.upscaled:
            counts["upscaled"] = sum(self.upscaled)
        return counts

    def remarks(self) -> Iterator[str]:
        """Yield sentences on what was found and on what the user may not expect."""
        if self.pages > 1:
            yield f"page {self.page} of {self.pages} was restored"
        if self.is_interlaced:
            yield "the photo shows the combs of interlaced video, which stay: deinterlace it first"
        if self.is_scale_limited:
            scale = f"{self.scale:g} times as large as the photo"
            yield f"the result is {scale}: twice would be too large"
        yield self.found()

    def numbers(self) -> list[int]:
        """Return each crop's number: the face's, or its place among them where none is counted."""
        counted = [face.number for face in self.faces] or [0] * len(self.crops)
        return [number or place for place, number in enumerate(counted, 1)]

    def found(self) -> str:
        """Return a phrase such as `2 faces, 1 left alone (1 too small)`."""
        count = len(self.faces)
        faces = f"{count} face{'s' * (count != 1)}" if count or not self.crops else "aligned"
        upscaled = f"{sum(self.upscaled)} upscaled" if self.upscaled else ""
        return ", ".join(filter(None, [faces, upscaled, describe(self.left_alone)]))

    def save(self, path: Path | str, *, keep_gps: bool = False) -> Path:
        """Write the image in the format of the path's suffix, such as .png or .jpg.

        The date and the camera are kept; the place only with `keep_gps`.

        Raises:
            InputError: another suffix, or the file can't be written.
        """
        path = Path(path)
        images.write(path, self.encode(format_of(path), keep_gps=keep_gps))
        return path

    def encode(self, file_format: images.Format, *, keep_gps: bool = False) -> bytes:
        """Return the image as a file's content.

        Raises:
            InputError: the format can't hold the size.
        """
        exif = self.metadata.exif(keep_gps=keep_gps)
        return images.encode(self.image, self.alpha, file_format, self.dpi, exif)

    def format_for(self, wanted: str) -> images.Format:
        """Return the format of that name; `auto` is the photo's own, PNG if it has transparency.

        Raises:
            InputError: another word.
        """
        return images.chosen_format(Photo(self.image, self.alpha, self.format), wanted)
