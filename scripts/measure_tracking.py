"""Measure how much the aligned crop of a moving face jitters, with and without smoothing.

python -m scripts.measure_tracking
python -m scripts.measure_tracking --restored --frames 60   # the restored frames as well
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core import geometry, images
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import Detection, load_detector
from gfpgan_core.detectors import Face
from gfpgan_core.geometry import Transform
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.video.tracking import DetectedFrame, follow

SAMPLE = Path(__file__).parent.parent / "assets" / "sample.jpg"
RATE = 30.0
_SIDE_PX = 320
_CROP_PX = 512


def image_from_portrait(second: float, side_px: int) -> Transform:
    """Return where the portrait, 512 px, lies at a time: it sways, tilts and comes nearer."""
    angle = 0.12 * np.sin(2 * np.pi * 0.4 * second)
    scale = side_px / 512 * (1.3 + 0.1 * np.sin(2 * np.pi * 0.25 * second))
    turned = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sway = np.array([np.sin(2 * np.pi * 0.5 * second), np.cos(2 * np.pi * 0.3 * second)])
    # The middle of the sample's face.
    return np.column_stack([turned, side_px * (0.5 + 0.06 * sway) - turned @ [220.0, 115.0]])


def degraded(image: ImageU8, rng: np.random.Generator) -> ImageU8:
    """Return the image blurred, at half resolution, with noise and JPEG's blocks."""
    height, width = image.shape[:2]
    small = cv2.resize(cv2.GaussianBlur(image, (0, 0), 1.2), (width // 2, height // 2))
    noisy = np.clip(small + rng.normal(0, 8, small.shape), 0, 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", noisy[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    return np.asarray(cv2.resize(decoded, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@dataclass(frozen=True)
class Clip:
    """A portrait that moves as `image_from_portrait` says."""

    clean: list[ImageU8]
    degraded: list[ImageU8]
    truth: list[Transform]


def make_clip(frames: int, seed: int = 0) -> Clip:
    """Return the sample's portrait in motion."""
    portrait = images.read_rgb(SAMPLE)
    rng = np.random.default_rng(seed)
    truth = [image_from_portrait(number / RATE, _SIDE_PX) for number in range(frames)]
    size_wh, border = (_SIDE_PX, _SIDE_PX), cv2.BORDER_REPLICATE
    clean = [geometry.warp(portrait, one, size_wh, border=border) for one in truth]
    return Clip(clean, [degraded(image, rng) for image in clean], truth)


def jitter(clip: Clip, faces: list[Face]) -> tuple[float, float, float, float]:
    """Return how much the crop moves over the face, and changes, from frame to frame.

    Returns:
        Root of the mean square, in pixels of the 512 px crop: between frames, and of the whole
        (the mean place left out); mean difference of consecutive crops, in gray levels: cut out of
        the clean frames, and of the degraded ones.
    """
    crops = [face.crop_of_size(_CROP_PX) for face in faces]
    inside = geometry.apply(geometry.inverse(faces[0].crop_from_image), geometry.TEMPLATE_LANDMARKS)
    portrait = geometry.apply(geometry.inverse(clip.truth[0]), inside)
    places = np.array(
        [
            geometry.apply(geometry.chain(crop, truth), portrait)
            for crop, truth in zip(crops, clip.truth, strict=True)
        ]
    )
    return (
        _rms(np.diff(places, axis=0)),
        _rms(places - places.mean(axis=0)),
        _change(clip.clean, crops),
        _change(clip.degraded, crops),
    )


def _rms(moves: NDArray[np.float64]) -> float:
    return float(np.sqrt((moves**2).sum(axis=-1).mean()))


def _change(frames: list[ImageU8], crops: list[Transform]) -> float:
    size = (_CROP_PX, _CROP_PX)
    cut = [geometry.warp(*pair, size).astype(int) for pair in zip(frames, crops, strict=True)]
    return float(np.mean([np.abs(b - a).mean() for a, b in itertools.pairwise(cut)]))


@dataclass(frozen=True)
class _Known:
    """A detector that returns a face known before."""

    face: Face

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        return Detection([self.face])


def restored(restorer: FaceRestorer, frames: list[ImageU8], faces: list[Face]) -> list[ImageU8]:
    """Return the frames with the face of each restored and pasted back, at their own size."""
    restorer = copy.copy(restorer)
    results = []
    for frame, face in zip(frames, faces, strict=True):
        restorer.detector = _Known(face)
        results.append(restorer.restore(frame, RestoreOptions(scale=1)).image)
    return results


def flicker(frames: list[ImageU8], true_faces: list[Face]) -> float:
    """Return the mean difference of consecutive frames over the face, in gray levels.

    The frames are cut out by the true motion, by which nothing moves: what is left is flicker, and
    what resampling changes.
    """
    return _change(frames, [face.crop_of_size(_CROP_PX) for face in true_faces])


def true_faces(clip: Clip, first: Face) -> list[Face]:
    """Return the first frame's face, moved as the portrait moves."""
    portrait_from_image = geometry.inverse(clip.truth[0])
    return [
        dataclasses.replace(
            first,
            landmarks=geometry.apply(geometry.chain(one, portrait_from_image), first.landmarks),
        )
        for one in clip.truth
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=150, help="default: 150, five seconds")
    parser.add_argument("--detector", default="centerface")
    parser.add_argument("--restored", action="store_true", help="restore the frames with `compact`")
    options = parser.parse_args(arguments)
    clip = make_clip(options.frames)
    detector = load_detector(options.detector)
    looks = []
    for number, frame in enumerate(clip.degraded):
        looks.append(DetectedFrame(number / RATE, detector.find(frame).faces[:1]))
    followed = [next(iter(faces.values())) for faces in follow(looks)]
    true = true_faces(clip, looks[0].faces[0])
    kinds = {
        "as detected": [look.faces[0] for look in looks],
        "smoothed": followed,
        "by the true motion": true,
    }
    print("| crop | between frames, px | of the whole, px | clean, levels | degraded, levels |")
    print("|---|---|---|---|---|")
    for name, faces in kinds.items():
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in jitter(clip, faces)) + " |")
    if options.restored:
        restorer = FaceRestorer.from_release("compact", detector=options.detector)
        print("\n| frames, over the face | change, levels |\n|---|---|", flush=True)
        print(f"| before degradation | {flicker(clip.clean, true):.2f} |")
        print(f"| degraded | {flicker(clip.degraded, true):.2f} |", flush=True)
        for name, faces in kinds.items():
            changed = flicker(restored(restorer, clip.degraded, faces), true)
            print(f"| restored, crops {name} | {changed:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
