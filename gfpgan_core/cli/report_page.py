"""`restore --report`: a run as one HTML page that needs nothing but itself.

Pictures are small JPEG copies inside of the page, style and script too. The page's policy names
their hashes, so that a browser loads and runs nothing else, whatever a photo is called.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from gfpgan_core.cli.pairs import escaped, marks, pair, resource
from gfpgan_core.cli.report import Tally
from gfpgan_core.errors import InputError, error_text

if TYPE_CHECKING:
    from gfpgan_core.images import ImageU8, Photo
    from gfpgan_core.result import Restoration

MAX_PICTURE_BYTES = 64 * 2**20
"""Of all pictures, as they stand in the page: browsers open one of this size in a few seconds."""
_MAX_SIDE_PX, _MIN_SIDE_PX = 1200, 320
# Two pictures of 1200x900 px take up to 0.7 MB: more photos than this get smaller ones.
_PHOTOS_OF_MAX_SIDE = 80
_FACE_SIDE_PX = 320

_MEANINGS = (
    "Score: of the detection, 0 to 1. Eyes: their distance in pixels of the photo, as of a face"
    " that looks into the camera. Sharpness, 0 to 1, and noise, in gray levels: of the face as it"
    " was. Share: of the restored face in the result; here each face is shown wholly restored."
)


class ReportPage:
    """Collects the outcome of each photo, and returns the page as HTML."""

    def __init__(self, folder: Path, photos: int, *, page: int = 1, settings: str = "") -> None:
        """Prepare an empty page.

        Args:
            folder: Where the page will lie: its links to results start there.
            photos: How many there will be: the more, the smaller the pictures.
            page: Of files with several, the one that is restored.
            settings: What the head of the page says of the run.
        """
        share = math.sqrt(_PHOTOS_OF_MAX_SIDE / max(1, photos))
        self.side_px = min(_MAX_SIDE_PX, max(_MIN_SIDE_PX, int(_MAX_SIDE_PX * share)))
        self._folder = folder
        self._page = page
        self._settings = settings
        self._articles: list[str] = []
        self._failures: list[str] = []
        self._room_bytes = MAX_PICTURE_BYTES

    def restored(self, source: Path, result: Restoration, file: Path) -> None:
        """Add a photo with its faces; `file` is its result."""
        from gfpgan_core import images

        parts = ", ".join(f"{name} {spent:.2f}" for name, spent in result.seconds.items())
        figures = {
            "Faces": result.found(),
            "Scale": f"{result.scale:.4g}",
            "Size": f"{_size(result.image)} px",
            "Seconds": f"{sum(result.seconds.values()):.2f}" + (f" ({parts})" if parts else ""),
        }
        remarks = [remark for remark in result.remarks() if remark != result.found()]
        try:
            photo = images.read(source, page=self._page)
            figures["Size"] = f"{_size(photo.rgb)}, now {figures['Size']}"
            shown = self._photos(source, photo, result.image, result.alpha, marks(result))
        except (InputError, MemoryError) as error:  # removed or changed since
            shown = _soft(f"no picture: {error_text(error)}")
        self._add(source, file, [shown, _list(figures), *map(_soft, remarks), self._faces(result)])

    def restored_before(self, source: Path, file: Path) -> None:
        """Add a photo that an earlier run restored, whose faces and figures are not known now."""
        from gfpgan_core import images

        try:
            photo, after = images.read(source, page=self._page), images.read(file)
            shown = self._photos(source, photo, after.rgb, after.alpha)
        except (InputError, MemoryError) as error:
            shown = _soft(f"no picture: {error_text(error)}")
        self._add(source, file, [shown, _soft("restored by an earlier run")])

    def failed(self, name: Path | str, text: str) -> None:
        """Add a photo that could not be restored, and why."""
        self._failures.append(f"<li><b>{escaped(name)}</b>: {escaped(text)}</li>")

    def html(self, tally: Tally) -> bytes:
        """Return the page as a file's content."""
        css = resource("report_page.css") + resource("pairs.css")
        js = resource("pairs.js")
        policy = (
            f"default-src 'none'; img-src data:; style-src {_hash(css)}; script-src {_hash(js)};"
            " base-uri 'none'; form-action 'none'"
        )
        failures = f"<h2>{len(self._failures)} failed</h2><ul>{''.join(self._failures)}</ul>"
        parts = [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Restored photos</title><style>{css}</style></head><body>",
            f"<h1>Restored photos</h1><p>{escaped(tally)}</p>{_soft(self._settings)}",
            _soft(
                "Drag a picture's line, or move it with the arrow keys: before on the left, after"
                f" on the right. Pictures here are JPEG copies of at most {self.side_px} px a side"
                f" (faces {self._face_side_px} px); the links open the results."
            ),
            f"<details><summary>What the figures mean</summary>{_soft(_MEANINGS)}</details>",
            f'<section class="failed">{failures}</section>' if self._failures else "",
            f"<main>{''.join(self._articles)}</main><script>{js}</script></body></html>\n",
        ]
        return "\n".join(parts).encode("utf-8")

    @property
    def _face_side_px(self) -> int:
        return min(_FACE_SIDE_PX, self.side_px)

    def _add(self, source: Path, file: Path, parts: Iterable[str]) -> None:
        link = os.fsencode(os.path.relpath(file, self._folder))
        size = ""
        with contextlib.suppress(OSError):  # removed since
            size = f" ({file.stat().st_size / 1e6:.2f} MB)"
        self._articles.append(
            f"<article><h2>{escaped(source)}</h2>{''.join(parts)}"
            f'<p><a href="./{quote(link)}">{escaped(file.name)}</a>{size}</p></article>'
        )

    def _photos(
        self,
        source: Path,
        photo: Photo,
        rgb: ImageU8,
        alpha: ImageU8 | None,
        overlay: str = "",
    ) -> str:
        """Return a photo beside its result, both as large as the result's preview."""
        from gfpgan_core import images

        size_wh = images.preview_size_wh(rgb, self.side_px)
        before = images.preview(photo.rgb, photo.alpha, size_wh)
        after = images.preview(rgb, alpha, size_wh)
        return self._pair(str(source), before, after, size_wh, overlay)

    def _faces(self, result: Restoration) -> str:
        """Return the faces with their figures; an aligned photo's one face has none."""
        from gfpgan_core import images

        size_wh = (self._face_side_px, self._face_side_px)
        figures: list[str] = []
        pairs = zip(result.crops, result.restored_crops, strict=True)
        for n, (number, crops) in enumerate(zip(result.numbers(), pairs, strict=True)):
            before, after = (images.preview(crop, None, size_wh) for crop in crops)
            caption = ", ".join(_face_figures(result, n))
            shown = self._pair(f"face {number}", before, after, size_wh)
            figures.append(f"<figure>{shown}<figcaption>{escaped(caption)}</figcaption></figure>")
        return f'<div class="faces">{"".join(figures)}</div>'

    def _pair(
        self, name: str, before: bytes, after: bytes, size_wh: tuple[int, int], overlay: str = ""
    ) -> str:
        """Return two pictures with the slider between them, unless the page is full."""
        made = pair(name, before, after, size_wh, overlay)
        if len(made) > self._room_bytes:
            limit = f"{MAX_PICTURE_BYTES / 2**20:.0f} MiB"
            return _soft(f"no picture: this page holds at most {limit} of them")
        self._room_bytes -= len(made)
        return made


def _face_figures(result: Restoration, n: int) -> Iterator[str]:
    for face in result.faces[n : n + 1]:
        yield f"face {result.numbers()[n]}"
        yield f"score {face.score:.2f}"
        yield f"eyes {face.eye_distance_px:.0f} px"
    for damage in result.damages[n : n + 1]:
        yield f"sharpness {damage.sharpness:.2f}"
        yield f"noise {damage.noise:.1f}"
    for blend in result.blends[n : n + 1]:
        yield f"share {blend:.2g}"
    yield f"{result.seconds.get('restoration', 0.0) / len(result.crops):.2f} s"


def _size(rgb: ImageU8) -> str:
    return f"{rgb.shape[1]} x {rgb.shape[0]}"


def _soft(text: str) -> str:
    return f'<p class="soft">{escaped(text)}</p>' if text else ""


def _list(figures: dict[str, str]) -> str:
    rows = (f"<div><dt>{name}</dt><dd>{escaped(text)}</dd></div>" for name, text in figures.items())
    return f"<dl>{''.join(rows)}</dl>"


def _hash(text: str) -> str:
    """Return how a page's policy allows an inline style or script: by its content."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
