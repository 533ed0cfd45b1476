"""The part of upstream's `face_helper` that its callers reach for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfpgan_core import geometry
from gfpgan_core.geometry import Transform
from gfpgan_core.images import ImageU8
from gfpgan_core.result import Restoration
from gfpgan_core.upstream.arrays import flipped
from gfpgan_core.upstream.parts import MovableDetector, MovableMasker


@dataclass
class FaceLists:
    """The faces of one call, as the lists of upstream's helper; callers may change them."""

    input_img: ImageU8 | None = None
    """(H, W, 3) BGR."""
    det_faces: list[NDArray[np.float64]] = field(default_factory=list)
    """(5,): left, top, right, bottom, score."""
    all_landmarks_5: list[NDArray[np.float64]] = field(default_factory=list)
    """(5, 2)."""
    affine_matrices: list[Transform] = field(default_factory=list)
    """(2, 3): crop from image."""
    inverse_affine_matrices: list[Transform] = field(default_factory=list)
    """(2, 3): result from crop, half-pixel exact; only where faces were pasted."""
    cropped_faces: list[ImageU8] = field(default_factory=list)
    """(size, size, 3) BGR."""
    restored_faces: list[ImageU8] = field(default_factory=list)

    @classmethod
    def of(cls, restoration: Restoration, bgr: ImageU8) -> FaceLists:
        """Return the lists of a restoration of a BGR photo."""
        found = cls(bgr)
        for face in restoration.faces:
            found.det_faces.append(np.array([*face.box_xyxy, face.score]))
            found.all_landmarks_5.append(face.landmarks)
            found.affine_matrices.append(face.crop_of_size(restoration.crops[0].shape[0]))
        found.cropped_faces = [flipped(crop) for crop in restoration.crops]
        found.restored_faces = [flipped(crop) for crop in restoration.restored_crops]
        return found

    def tell_way_back(self, result: ImageU8) -> None:
        """Fill `inverse_affine_matrices` for a result of the photo."""
        assert self.input_img is not None
        result_from_image = geometry.scaling(self.input_img.shape[1::-1], result.shape[1::-1])
        self.inverse_affine_matrices = [
            geometry.chain(result_from_image, geometry.inverse(affine))
            for affine in self.affine_matrices
        ]


class FaceHelper:
    """What the last `enhance` of this thread found; of a thread without one, the last of any.

    Its lists are made anew for each call, so that threads don't mix their faces.
    """

    face_size = (512, 512)

    def __init__(
        self, upscale_factor: float, face_det: MovableDetector, face_parse: MovableMasker
    ) -> None:
        self.upscale_factor = upscale_factor
        self.face_det = face_det
        self.face_parse = face_parse
        self._of_thread = threading.local()
        self._newest = FaceLists()

    @property
    def faces(self) -> FaceLists:
        """What the last call found."""
        found: FaceLists = getattr(self._of_thread, "faces", self._newest)
        return found

    def keep(self, faces: FaceLists) -> None:
        """Take what a call of this thread found."""
        self._of_thread.faces = self._newest = faces

    def clean_all(self) -> None:
        """Forget what was found; lists that were handed out stay as they are."""
        self.keep(FaceLists())

    def set_upscale_factor(self, upscale_factor: float) -> None:
        """Set the side of the result relative to the photo's."""
        self.upscale_factor = upscale_factor

    def __getattr__(self, name: str) -> Any:
        """Offer the lists; say what there is where upstream's class had more."""
        offered = FaceLists.__dataclass_fields__
        if name in offered:
            return getattr(self.faces, name)
        raise AttributeError(
            f"face_helper has no {name!r} here; it offers clean_all(), face_det, face_parse,"
            f" {', '.join(offered)}. For the steps one by one, facexlib has the whole class"
        )
