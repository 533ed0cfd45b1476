"""Pictures before and after, as HTML: a line between them to drag, faces marked, faces listed.

For the report and for the page in the browser, with `pairs.css` and `pairs.js`, which it needs.
"""

from __future__ import annotations

import base64
import html
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from gfpgan_core import geometry
from gfpgan_core.cli.report import printable

if TYPE_CHECKING:
    from gfpgan_core.result import Restoration

# The corners of a crop; a pixel's middle has whole numbers.
_SIDE_PX = geometry.TEMPLATE_SIZE_PX
_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * _SIDE_PX - 0.5


def escaped(text: object) -> str:
    """Return a text for HTML, also within double quotes; what hides or turns text is escaped."""
    return html.escape(printable(str(text)))


def resource(name: str) -> str:
    """Return one of the texts that belong to a page."""
    return resources.files("gfpgan_core.cli").joinpath(name).read_text(encoding="utf-8")


def pair(
    name: str, before: bytes, after: bytes, size_wh: tuple[int, int], overlay: str = ""
) -> str:
    """Return two JPEG files of one size with the slider between them, in one element.

    `name` is what a screen reader says of it; `overlay` lies over both, shown on demand.
    """
    pictures = "".join(
        f'<img class="{when}" alt="{when}" width="{size_wh[0]}" height="{size_wh[1]}"'
        f' src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}">'
        for when, data in (("before", before), ("after", after))
    )
    slider = (
        f'<input type="range" aria-label="Before and after: {escaped(name)}" value="50"'
        ' aria-valuetext="50 % before, the rest after">'
    )
    both = f'<div class="pair">{pictures}{overlay}<span class="line"></span>{slider}</div>'
    if not overlay:
        return both
    box = '<input type="checkbox"> Mark the faces (dashed: what the network saw)'
    return f'<div class="marked">{both}<label class="marks">{box}</label></div>'


def marks(result: Restoration) -> str:
    """Return a drawing over the photo: each face's number, box, and what the network saw of it.

    Empty where no face was looked for or found.
    """
    if not result.faces:
        return ""
    height, width = (side / result.scale for side in result.image.shape[:2])
    line = max(width, height) / 300
    shapes = []
    for face in result.faces:
        left, top, right, bottom = (float(side) for side in face.box_xyxy)
        corners = geometry.apply(geometry.inverse(face.crop_of_size(_SIDE_PX)), _CORNERS)
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{line}"/>' for x, y in face.landmarks)
        shapes.append(
            f'<polygon points="{points}" stroke-dasharray="{4 * line:.1f}"/><rect x="{left:.1f}"'
            f' y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"/>{dots}'
            f'<text x="{left + 3 * line:.1f}" y="{top + 14 * line:.1f}"'
            f' font-size="{14 * line:.1f}">{face.number}</text>'
        )
    return (
        f'<svg class="drawn" viewBox="0 0 {width:.1f} {height:.1f}" stroke-width="{line:.2f}"'
        f' aria-hidden="true">{"".join(shapes)}</svg>'
    )
