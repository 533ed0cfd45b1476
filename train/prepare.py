"""Any photos to aligned faces with the boxes of their eyes and mouth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from gfpgan_core import geometry, images
from gfpgan_core.align import align
from gfpgan_core.detect import FaceDetector
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import TEMPLATE_SIZE_PX, apply, eye_distance, fit_to_template, scale_of
from gfpgan_core.images import ImageU8
from train.components import FILE_NAME, Boxes, boxes_from_landmarks, save_boxes

# The template's eyes are 126 px apart at 512 px; below half of that a crop is mostly interpolated.
MIN_EYE_DISTANCE_PX = 60.0

# How far the landmarks of a square photo may say that it isn't aligned yet: what a detector errs.
_ALIGNED_SCALE = 0.1
_ALIGNED_SHIFT_PX = 25.0  # of 512


@dataclass
class Prepared:
    """What became of the photos."""

    faces: list[Path] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """Photo to the reason why nothing of it is used."""

    def summary(self) -> str:
        """One line for each reason, with some of the photos."""
        reasons: dict[str, list[str]] = {}
        for name, reason in self.refused.items():
            reasons.setdefault(reason, []).append(name)
        lines = [
            f"{len(names)} refused: {reason} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
            for reason, names in reasons.items()
        ]
        return "\n".join([f"{len(self.faces)} usable faces", *lines])


def prepare_faces(
    photos: Iterable[Path],
    destination: Path,
    detector: FaceDetector,
    *,
    face_size_px: int = TEMPLATE_SIZE_PX,
    min_eye_distance_px: float = MIN_EYE_DISTANCE_PX,
) -> Prepared:
    """Writes each face as PNG, and `components.json` beside them.

    A square photo that is an aligned face already keeps its pixels. Photos without a usable face
    are reported, not raised. `min_eye_distance_px` counts in the photo.
    """
    destination.mkdir(parents=True, exist_ok=True)
    result = Prepared()
    boxes: dict[str, Boxes] = {}
    for photo in photos:
        try:
            image = images.read_rgb(photo)
            found = _faces_in(image, detector, face_size_px, min_eye_distance_px)
        except InputError as error:
            result.refused[photo.name] = str(error).replace(str(photo), "the file")
            continue
        for number, (crop, landmarks) in enumerate(found):
            path = _free_name(destination, photo.stem, number)
            images.write(path, images.encode(crop, None, "png"))
            boxes[path.name] = boxes_from_landmarks(landmarks)
            result.faces.append(path)
    save_boxes(destination / FILE_NAME, boxes)
    return result


def _faces_in(
    image: ImageU8, detector: FaceDetector, face_size_px: int, min_eye_distance_px: float
) -> list[tuple[ImageU8, geometry.Points]]:
    """Aligned crops, each with its landmarks at 512 px.

    Raises:
        InputError: there is no usable face.
    """
    faces = detector(image)
    if not faces:
        raise InputError("no face found")
    large = [face for face in faces if eye_distance(face.landmarks) >= min_eye_distance_px]
    if not large:
        raise InputError(f"faces are too small (eyes under {min_eye_distance_px:g} px apart)")
    result = []
    for face in large:
        if len(faces) == 1 and is_aligned(image, face.landmarks):
            crop = _resized(image, face_size_px)
            to_template = geometry.scaling(image.shape[1::-1], (TEMPLATE_SIZE_PX,) * 2)
        else:
            crop = align(image, face, face_size_px).pixels
            to_template = fit_to_template(face.landmarks, TEMPLATE_SIZE_PX)
        result.append((crop, apply(to_template, face.landmarks)))
    return result


def is_aligned(image: ImageU8, landmarks: geometry.Points) -> bool:
    """Whether a photo is a square, aligned face already, as far as a detector can tell."""
    height, width = image.shape[:2]
    if height != width:
        return False
    found = apply(geometry.scaling((width, height), (TEMPLATE_SIZE_PX,) * 2), landmarks)
    shift = np.linalg.norm((found - geometry.TEMPLATE_LANDMARKS).mean(axis=0))
    turned = fit_to_template(found, TEMPLATE_SIZE_PX)
    return bool(abs(scale_of(turned) - 1) < _ALIGNED_SCALE and shift < _ALIGNED_SHIFT_PX)


def _resized(image: ImageU8, side_px: int) -> ImageU8:
    if image.shape[0] == side_px:
        return image
    mode = cv2.INTER_AREA if image.shape[0] > side_px else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side_px, side_px), interpolation=mode), np.uint8)


def _free_name(folder: Path, stem: str, number: int) -> Path:
    """`photo.png`, `photo_1.png` for the second face, and so on past what is there."""
    path = folder / (f"{stem}_{number}.png" if number else f"{stem}.png")
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}.png"
    return path
