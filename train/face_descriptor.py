"""Distances between faces by dlib's descriptor, a network that no loss here uses.

Needs the packages dlib-bin and face_recognition_models (both optional): the network and the five
landmarks' predictor are dlib's own (dlib.net, face recognition; Kazemi and Sullivan 2014).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from gfpgan_core.images import ImageU8
from train.pretrained import packaged_file

_FILES = (
    "models/shape_predictor_5_face_landmarks.dat",
    "models/dlib_face_recognition_resnet_model_v1.dat",
)
_CHIP_PX = 150
_CHIP_PADDING = 0.25
# Left, top, right, bottom of the face in the aligned template, as shares of its side.
_BOX = (0.22, 0.32, 0.78, 0.88)


class FaceDescriptor:
    """Distances between two pictures of one aligned face."""

    def __init__(self, landmarks: Path, network: Path) -> None:
        import dlib

        self._dlib: Any = dlib
        self._landmarks = dlib.shape_predictor(str(landmarks))
        self._network = dlib.face_recognition_model_v1(str(network))

    def distance(self, image: ImageU8, gt: ImageU8) -> float:
        """Return the Euclidean distance of the descriptors of RGB (H, W, 3) images.

        0 is the same picture; dlib's authors take less than 0.6 for the same person. Both are cut
        out by the landmarks of `gt`, so that only the face differs.
        """
        side = gt.shape[0]
        box = self._dlib.rectangle(*(round(share * side) for share in _BOX))
        shape = self._landmarks(np.ascontiguousarray(gt), box)
        a, b = (self._describe(np.ascontiguousarray(face), shape) for face in (image, gt))
        return float(np.linalg.norm(a - b))

    def _describe(self, image: ImageU8, shape: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        chip = self._dlib.get_face_chip(image, shape, _CHIP_PX, _CHIP_PADDING)
        return np.array(self._network.compute_face_descriptor(chip))


def load_face_descriptor() -> FaceDescriptor | None:
    """Return dlib's descriptor, or None where its packages aren't installed."""
    landmarks, network = (packaged_file("face_recognition_models", name) for name in _FILES)
    if landmarks is None or network is None or importlib.util.find_spec("dlib") is None:
        return None
    return FaceDescriptor(landmarks, network)
