"""Cut aligned faces, with boxes of eyes and mouth, out of any photos."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gfpgan_core import geometry, images
from gfpgan_core.align import align
from gfpgan_core.detect import FaceDetector
from gfpgan_core.errors import InputError, MissingPackageError
from gfpgan_core.geometry import TEMPLATE_SIZE_PX, apply, fit_to_template, scale_of
from gfpgan_core.images import ImageU8
from train.components import FILE_NAME, Boxes, boxes_from_landmarks, load_boxes, save_boxes
from train.dataset import resize_face
from train.faces import some_of
from train.prepare_journal import FILE_NAME as JOURNAL
from train.prepare_journal import Entry, Journal, rows_of, without_missing

# The template's eyes are 126 px apart at 512 px; below half of that a crop is mostly interpolated.
MIN_EYE_DISTANCE_PX = 60.0

# How far the landmarks of a square photo may lie from the template if it counts as aligned: as far
# as a detector errs.
_ALIGNED_SCALE = 0.1
_ALIGNED_SHIFT_PX = 25.0  # of 512

# Names hold 255 bytes at most; a number and the suffix follow.
_MAX_STEM_BYTES = 200

_DIGITS = re.compile(r"\d+")


@dataclass
class Prepared:
    """The faces that were made, and why photos were refused."""

    faces: list[Path] = field(default_factory=list)
    """Those of this run and those that an earlier one made of the same photos."""
    new: int = 0
    refused: dict[Path, str] = field(default_factory=dict)
    """Photo to the reason why nothing of it is used."""
    copies: int = 0
    """Photos with the same bytes as another one of this run: their faces are made once."""
    pages: dict[Path, int] = field(default_factory=dict)
    """Photos whose faces were taken from the first of several pages or frames, and how many."""
    removed: int = 0
    """Faces that an earlier run made and that somebody has removed since: they stay removed."""

    def summary(self) -> str:
        """Return one line for the faces, and one for each reason with some of the photos."""
        alike: dict[str, list[Path]] = {}  # sizes and counts of bytes make no reason of their own
        for photo, reason in self.refused.items():
            alike.setdefault(_DIGITS.sub("", reason), []).append(photo)
        lines = [
            f"{len(photos)} refused: {self.refused[photos[0]]}"
            f" ({some_of([photo.name for photo in photos])})"
            for photos in alike.values()
        ]
        if self.pages:
            shown = some_of([f"{photo.name}: page 1 of {n}" for photo, n in self.pages.items()])
            lines.append(f"{len(self.pages)} of several pages, of which one is used ({shown})")
        if self.copies:
            lines.append(f"{self.copies} passed over: copies of other photos")
        if self.removed:
            lines.append(
                f"{self.removed} faces of earlier runs were removed and are not made again; without"
                f" {JOURNAL} they are"
            )
        count, kept = len(self.faces), len(self.faces) - self.new
        faces = f"{count} usable face{'s' * (count != 1)}" + f" ({kept} from before)" * bool(kept)
        return "\n".join([faces, *lines])


def prepare_faces(
    photos: Iterable[Path],
    destination: Path,
    detector: FaceDetector,
    *,
    face_size_px: int = TEMPLATE_SIZE_PX,
    min_eye_distance_px: float = MIN_EYE_DISTANCE_PX,
    error_text: Callable[[InputError], str] = str,
) -> Prepared:
    """Write each face as PNG, and `components.json` beside them; add to what is there.

    A square photo that is an aligned face already keeps its pixels. Photos without a usable face
    are reported, not raised. Photos that an earlier run has seen, known by their content, are not
    looked at again; the faces of a photo that was edited are replaced. `min_eye_distance_px`
    counts in the photo. `error_text` says why a photo is refused. Of several pages the first is
    used.

    Raises:
        InputError: the destination can't be written, or what is in it can't be read.
    """
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{destination} can't be made: {error.strerror}") from error
    boxes_file = destination / FILE_NAME
    boxes = load_boxes(boxes_file) if boxes_file.exists() else {}
    work = _Preparation(destination, detector, face_size_px, min_eye_distance_px, error_text)
    try:
        for photo in photos:
            work.add(photo)
    finally:  # also when it is stopped: what was done is kept
        table = work.journal.boxes() | boxes | work.new_boxes
        save_boxes(boxes_file, without_missing(table, destination))
    return work.result


class _Preparation:
    """The state of one run over the photos."""

    def __init__(
        self,
        destination: Path,
        detector: FaceDetector,
        face_size_px: int,
        min_eye_distance_px: float,
        error_text: Callable[[InputError], str],
    ) -> None:
        self.destination = destination
        self.detector = detector
        self.face_size_px = face_size_px
        self.min_eye_distance_px = min_eye_distance_px
        self.error_text = error_text
        self.journal = Journal(destination)
        self.result = Prepared()
        self.new_boxes: dict[str, Boxes] = {}
        self._seen: set[str] = set()
        self._listed: set[Path] = set()

    def add(self, photo: Path) -> None:
        """Make the faces of a photo, unless an earlier run has.

        Raises:
            InputError: the destination can't be written.
        """
        try:
            data = photo.read_bytes()
        except OSError as error:
            self.result.refused[photo] = f"it can't be read: {error.strerror}"
            return
        source, digest = str(photo.resolve()), hashlib.sha256(data).hexdigest()
        if digest in self._seen:
            self.result.copies += 1
        self._seen.add(digest)
        options = f"{self.face_size_px} px, eyes {self.min_eye_distance_px:g} px apart"
        known = self.journal.find(digest)
        outdated = self._outdated_faces(source, digest, options)
        if known and known.options == options:
            self._keep(photo, replace(known, source=source))
        else:
            self._make(photo, data, Entry(source, digest, options), outdated)
        self._remove(name for name in outdated if self.destination / name not in self._listed)

    def _outdated_faces(self, source: str, digest: str, options: str) -> list[str]:
        """Return the files to replace because the photo was edited, or the options are others."""
        names: list[str] = []
        before, known = self.journal.place(source), self.journal.find(digest)
        if before and before.sha256 != digest and not self.journal.is_copied(before):
            names += before.faces
        if known and known.options != options:
            names += known.faces
        return names

    def _make(self, photo: Path, data: bytes, entry: Entry, names_before: list[str]) -> None:
        try:
            decoded = images.decode(data, "the file")
            rgb = decoded.rgb
            found = _faces_in(rgb, self.detector, self.face_size_px, self.min_eye_distance_px)
        except InputError as error:
            self.result.refused[photo] = self.error_text(error)
            if not isinstance(error, MissingPackageError):  # which may be there the next time
                self.journal.add(replace(entry, refused=self.error_text(error)))
            return
        entry = replace(entry, pages=decoded.pages)
        self._note_pages(photo, entry)
        names = self._write(photo, [crop for crop, _ in found], names_before)
        boxes = [boxes_from_landmarks(landmarks) for _, landmarks in found]
        table = dict(zip(names, boxes, strict=True))
        self.journal.add(replace(entry, faces={n: rows_of(rows) for n, rows in table.items()}))
        self.new_boxes |= table

    def _keep(self, photo: Path, known: Entry) -> None:
        before = self.journal.place(known.source)
        if before is None or before.sha256 != known.sha256:
            self.journal.add(known)
        if known.refused:
            self.result.refused[photo] = known.refused
        self._note_pages(photo, known)
        for path in (self.destination / name for name in known.faces):
            if not path.exists():
                self.result.removed += 1
            elif path not in self._listed:  # else two photos are the same
                self._list(path)

    def _note_pages(self, photo: Path, entry: Entry) -> None:
        if entry.pages > 1:
            self.result.pages[photo] = entry.pages

    def _write(self, photo: Path, crops: list[ImageU8], names_before: list[str]) -> list[str]:
        """Write the crops, in the place of those that the photo gave before; return their names."""
        names: list[str] = []
        for number, crop in enumerate(crops):
            if number < len(names_before):
                path = self.destination / names_before[number]
            else:
                path = self._free_path(photo.stem, number, crop)
            images.write(path, images.encode(crop, None, "png"))
            names.append(path.name)
            self._list(path)
            self.result.new += 1
        return names

    def _list(self, path: Path) -> None:
        self._listed.add(path)
        self.result.faces.append(path)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.destination / name).unlink(missing_ok=True)

    def _free_path(self, stem: str, number: int, crop: ImageU8) -> Path:
        """Return `photo.png`, `photo_1.png` for the second face, and so on past what is there.

        A file that no entry names and that holds just this face is its own: of a run that was
        killed before it noted the face, or of a version that kept no journal.
        """
        stem = os.fsdecode(os.fsencode(stem)[:_MAX_STEM_BYTES])
        path = self.destination / (f"{stem}_{number}.png" if number else f"{stem}.png")
        while path.exists() and (path.name in self.journal.names or not _shows(path, crop)):
            number += 1
            path = self.destination / f"{stem}_{number}.png"
        return path


def _shows(path: Path, crop: ImageU8) -> bool:
    try:
        return np.array_equal(images.read_rgb(path), crop)
    except InputError:
        return False


def _faces_in(
    image: ImageU8, detector: FaceDetector, face_size_px: int, min_eye_distance_px: float
) -> list[tuple[ImageU8, geometry.Points]]:
    """Return aligned crops, each with its landmarks at 512 px.

    Raises:
        InputError: there is no usable face.
    """
    faces = detector(image)
    if not faces:
        raise InputError("no face found")
    large = [face for face in faces if face.eye_distance_px >= min_eye_distance_px]
    if not large:
        raise InputError(f"faces are too small (eyes under {min_eye_distance_px:g} px apart)")
    result = []
    for face in large:
        if len(faces) == 1 and is_aligned(image, face.landmarks):
            crop = resize_face(image, face_size_px)
            to_template = geometry.scaling(image.shape[1::-1], (TEMPLATE_SIZE_PX,) * 2)
        else:
            crop = align(image, face, face_size_px).pixels
            to_template = fit_to_template(face.landmarks, TEMPLATE_SIZE_PX)
        result.append((crop, apply(to_template, face.landmarks)))
    return result


def is_aligned(image: ImageU8, landmarks: geometry.Points) -> bool:
    """Return whether a photo is a square, aligned face already, as far as a detector can tell."""
    height, width = image.shape[:2]
    if height != width:
        return False
    found = apply(geometry.scaling((width, height), (TEMPLATE_SIZE_PX,) * 2), landmarks)
    shift = np.linalg.norm((found - geometry.TEMPLATE_LANDMARKS).mean(axis=0))
    turned = fit_to_template(found, TEMPLATE_SIZE_PX)
    return bool(abs(scale_of(turned) - 1) < _ALIGNED_SCALE and shift < _ALIGNED_SHIFT_PX)
