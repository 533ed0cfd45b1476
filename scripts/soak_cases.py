"""The requests of `scripts.soak`, good and bad, with the answers that must come back."""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from gfpgan_core import FaceRestorer, RestoreOptions, images

_ROOT = Path(__file__).parent.parent

Inputs = dict[str, Any]


@dataclass
class Case:
    """A request, and what must come back: a picture (rounded to its format), or an error's text."""

    inputs: Inputs
    picture: images.ImageU8 | None = None
    error: str = ""
    exact: bool = True
    digests: set[str] = field(default_factory=set)


def _photo(side: int, turn: int) -> bytes:
    """Return a small PNG of a face, cut out differently for each `turn`."""
    portrait = Image.open(_ROOT / "assets" / "sample.jpg").convert("RGB")
    part = portrait.crop((20 * turn, 10 * turn, 512 - 10 * turn, 512 - 20 * turn))
    buffer = io.BytesIO()
    part.resize((side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def _url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def good_cases() -> list[Case]:
    """Return requests with the pictures that the library itself makes for them."""
    restorer = FaceRestorer.from_release("compact", device="cpu")
    cases = []
    for turn in range(4):
        data = _photo(96 + 32 * turn, turn)
        for scale, file_format in ((1.0, "png"), (1.5, "jpg"), (2.0, "webp")):
            aligned = turn == 3
            options = RestoreOptions(scale=scale, aligned=aligned)
            picture = restorer.restore(images.decode(data), options).image
            inputs = {"img": _url(data), "scale": scale, "output_format": file_format}
            inputs |= {"aligned": aligned}
            cases.append(Case(_complete(inputs), picture, exact=file_format == "png"))
    return cases


def bad_cases(closed_port: int) -> list[Case]:
    """Return requests with the text that must be in their refusal."""
    good = _url(_photo(64, 0))
    small = io.BytesIO()
    Image.new("RGB", (4, 4)).save(small, "PNG")
    return [
        Case(_complete(inputs), error=text)
        for inputs, text in (
            ({"img": good, "scale": 99}, "99 is greater than the maximum of 8"),
            ({"img": good, "version": "v9"}, '"v9" is not one of'),
            ({"img": 5}, 'is not of type "string"'),
            ({}, "Field required"),
            ({"img": "/etc/passwd"}, "paths are not read"),
            ({"img": ""}, "img is empty"),
            ({"img": _url(b"Dear sir or madam")}, "img is no image"),
            ({"img": _url(_photo(128, 0)[:3000])}, "damaged or cut off"),
            ({"img": _url(small.getvalue())}, "at least 16 px"),
            ({"img": f"http://127.0.0.1:{closed_port}/face.jpg"}, "can't be fetched"),
        )
    ]


def _complete(inputs: Inputs) -> Inputs:
    return {"version": "compact", "background_upsampler": "none"} | inputs


def make_plan(count: int, good: list[Case], bad: list[Case]) -> list[tuple[str, Case]]:
    """Return kinds and requests in a fixed mixed order: 70 % good, 20 % bad, 5 % of each break."""
    drawn = random.Random(0)
    kinds = drawn.choices(("good", "bad", "canceled", "disconnected"), (70, 20, 5, 5), k=count)
    return [(kind, drawn.choice(bad if kind == "bad" else good)) for kind in kinds]
