"""The Cog predictor: `cog run -i img=@face.jpg`, and what Replicate serves."""

from __future__ import annotations

import logging
import time
from pathlib import Path as LocalPath
from typing import Optional, Union

import torch
from cog import BaseRunner, Input, Path

from gfpgan_core import images, serving
from gfpgan_core.backends import compile_kernels
from gfpgan_core.client_errors import errors_for_clients
from gfpgan_core.config import AUTO_SCALE, FaceSelection, RestoreOptions, parse_faces
from gfpgan_core.detect import load_detector
from gfpgan_core.errors import InputError
from gfpgan_core.masks import load_masker
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.result import Restoration
from gfpgan_core.runtime import best_device, configure_process
from gfpgan_core.weights import hosted
from gfpgan_core.weights.load import Network, load

_WITHOUT_WEIGHTS = (
    "choose another version or background_upsampler (`compact` and `none` are always there)"
)

_logger = logging.getLogger(__name__)


# Cog reads the inputs without running this file: each description is one literal in one piece.
class Predictor(BaseRunner):
    """Restores photos for Cog; keeps every network that it has loaded, by version."""

    def setup(self, weights: Optional[Union[Path, str]] = None) -> None:  # noqa: UP007, UP045
        """Load the detector, the masker, and the network of `weights` if there are any.

        Args:
            weights: `COG_WEIGHTS`: the path or the URL of a training's weights, or of a tar with
                them. They then serve every request, whatever version is asked for.
        """
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        configure_process()
        self.files = serving.RequestFiles(serving.MAX_PHOTO_BYTES)
        self.files.start()
        self.files.remove_on_sigterm()
        self.device = best_device()
        network = hosted.load_trained(str(weights), self.device) if weights else None
        self.detector = load_detector("auto", self.device)
        self.masker = load_masker("auto", self.device)
        if self.device == "cpu":
            compile_kernels()  # found in the image's cache where its processor is this one
        self.restorers: dict[str, FaceRestorer] = {}
        self.trained = self._restorer(network) if network else None

    def healthcheck(self) -> bool:
        """Return whether the device computes and files can be written: for Cog's /health-check."""
        answer = float(torch.ones(2, device=self.device).sum())
        return answer == 2 and self.files.is_usable()

    def run(
        self,
        img: Path = Input(
            description="The photo: JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC or AVIF", accept="image/*"
        ),
        version: str = Input(
            description="Restoration network; `compact` is small and fast, `v1.4` the best known",
            default="v1.4",
            choices=["v1", "v1.2", "v1.3", "v1.4", "RestoreFormer", "compact"],
        ),
        scale: float = Input(
            description="Size of the result relative to the photo; 2 is lowered where it can't fit",
            default=2,
            ge=0.25,
            le=8,
        ),
        background_upsampler: str = Input(
            description="What enlarges everything but the faces; `none` interpolates",
            default="realesrgan-x4v3",
            choices=["none", "realesrgan-x4v3", "realesrgan-x2plus", "realesrgan-x4plus"],
        ),
        upscale_faces: bool = Input(
            description="`background_upsampler` over faces too, at scales above 2", default=False
        ),
        blend: float = Input(
            description="Share of the restored face: 0 keeps the photo's own", default=1, ge=0, le=1
        ),
        auto_blend: bool = Input(
            description="As much of each face as its damage asks for, not `blend`", default=False
        ),
        faces: str = Input(
            description="`all`, `largest`, `center`, or numbers from left to right such as `1,3`",
            default="all",
        ),
        only_center_face: bool = Input(
            description="Restore only the face nearest to the photo's center", default=False
        ),
        aligned: bool = Input(
            description="The photo is one aligned, square face already", default=False
        ),
        output_format: str = Input(
            description="`auto` is the photo's own format, PNG where it has transparency",
            default="auto",
            choices=["auto", "png", "jpg", "webp"],
        ),
    ) -> Path:
        """Return the restored photo, round(side * scale) pixels large.

        The default scale is the largest up to 2 that fits. The log tells what isn't as requested.
        """
        with errors_for_clients(_WITHOUT_WEIGHTS), self.files.request(img):
            options = RestoreOptions(
                scale="auto" if scale == AUTO_SCALE else scale,
                blend="auto" if auto_blend else blend,
                background=background_upsampler,  # type: ignore[arg-type]
                upscale_faces=upscale_faces,
                faces=_chosen_faces(faces, only_center_face=only_center_face),
                aligned=aligned,
            )
            return Path(self._restore(img, version, options, output_format))

    def _restore(
        self, img: object, version: str, options: RestoreOptions, output_format: str
    ) -> LocalPath:
        started = time.perf_counter()
        path = self.files.received(img, "img", serving.MAX_PHOTO_BYTES)
        photo = images.read(path, name="img")
        _logger.info("restoring %dx%d px", photo.rgb.shape[1], photo.rgb.shape[0])
        file_format = images.chosen_format(photo, output_format)
        restoration = self._restorer_for(version).restore(photo, options)
        self._report(restoration)
        made = restoration.save(self.files.work_folder() / f"restored.{file_format}")
        _logger.info("%.1f s", time.perf_counter() - started)
        return self.files.publish(made, "restored")

    def _report(self, restoration: Restoration) -> None:
        """Write what was found, and what the client may not expect, to the log and the metrics."""
        for part, seconds in restoration.seconds.items():
            self.record_metric(f"{part}_seconds", round(seconds, 4))
        for name, number in restoration.counts().items():
            self.record_metric(name, number)
        for remark in restoration.remarks():
            _logger.info("%s", remark)

    def _restorer_for(self, version: str) -> FaceRestorer:
        if self.trained:
            return self.trained
        if version not in self.restorers:
            self.restorers[version] = self._restorer(load(version, self.device))
        return self.restorers[version]

    def _restorer(self, network: Network) -> FaceRestorer:
        return FaceRestorer(network, self.detector, self.masker, self.device)


def _chosen_faces(faces: str, *, only_center_face: bool) -> FaceSelection:
    """Return the choice of both inputs.

    Raises:
        InputError: they contradict each other, or `faces` is no choice.
    """
    chosen = parse_faces(faces)
    if not only_center_face:
        return chosen
    if chosen not in ("all", "center"):
        raise InputError(
            f"faces is {faces!r} and only_center_face is on: send one of them, or faces `center`"
        )
    return "center"
