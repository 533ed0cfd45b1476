"""Describe faces as text and as JSON, with the same fields for `--json` and `--list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfpgan_core.damage import Damage
    from gfpgan_core.detectors import Face


def described_face(face: Face, damage: Damage | None = None) -> dict[str, Any]:
    """Return a face's fields for JSON; pixels are those of the upright photo.

    `number` counts the photo's faces from left to right, from 1; it is null where nothing is
    counted. `sharpness` is 0 to 1, `noise` in gray levels.
    """
    described: dict[str, Any] = {
        "number": face.number or None,
        "box": [round(float(side), 1) for side in face.box_xyxy],
        "landmarks": [[round(float(x), 1), round(float(y), 1)] for x, y in face.landmarks],
        "score": face.score,
        "eye_distance": round(face.eye_distance_px, 1),
    }
    if damage is not None:
        described |= {"sharpness": damage.sharpness, "noise": damage.noise}
    return described


def face_line(face: Face, damage: Damage) -> str:
    """Return a face in one line of text."""
    left, top, right, bottom = (round(float(side)) for side in face.box_xyxy)
    place = f"face {face.number}: box {left},{top},{right},{bottom}, score {face.score:.2f}"
    seen = f"sharpness {damage.sharpness:.2f}, noise {damage.noise:.1f}"
    return f"{place}, eye distance {face.eye_distance_px:.0f} px, {seen}"
