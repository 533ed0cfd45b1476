"""The Cog predictor: `cog predict -i img=@face.jpg`, and what Replicate serves."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path as LocalPath
from typing import Optional

from cog import BasePredictor, Input, Path

from gfpgan_core import images
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import load_detector
from gfpgan_core.masks import load_masker
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.runtime import best_device, configure_process
from gfpgan_core.weights.load import Network, load, load_file

_logger = logging.getLogger(__name__)


class Predictor(BasePredictor):
    """Keeps each network it has loaded, by the name of its version."""

    def setup(self, weights: Optional[Path] = None) -> None:  # noqa: UP045 - Cog parses this
        """Loads what every prediction needs.

        Args:
            weights: `COG_WEIGHTS`, the file of a training: it then serves every request, whatever
                version is asked for.
        """
        configure_process()
        self.device = best_device()
        self.detector = load_detector("auto", self.device)
        self.masker = load_masker("auto", self.device)
        self.restorers: dict[str, FaceRestorer] = {}
        self.own: FaceRestorer | None = None
        if weights:
            self.own = self._restorer(load_file(LocalPath(str(weights)), self.device))
        self.folder = LocalPath(tempfile.mkdtemp(prefix="restored-"))

    def predict(
        self,
        img: Path = Input(description="The photo: JPEG, PNG, WebP, BMP, TIFF or GIF"),
        version: str = Input(
            # One literal in one piece: Cog reads this file without running it.
            description="Restoration network; `compact` is small and fast, `v1.4` the best known",
            default="v1.4",
            choices=["v1", "v1.2", "v1.3", "v1.4", "RestoreFormer", "compact"],
        ),
        scale: float = Input(
            description="Size of the result relative to the photo", default=2, ge=0.25, le=8
        ),
        background_upsampler: str = Input(
            description="What enlarges everything but the faces; `none` interpolates",
            default="realesrgan-x4v3",
            choices=["none", "realesrgan-x4v3", "realesrgan-x2plus", "realesrgan-x4plus"],
        ),
        blend: float = Input(
            description="Share of the restored face: 0 keeps the faces as they are",
            default=1,
            ge=0,
            le=1,
        ),
        only_center_face: bool = Input(
            description="Restore only the face nearest to the photo's centre", default=False
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
        """The restored photo, round(side * scale) pixels large."""
        options = RestoreOptions(
            scale=scale,
            blend=blend,
            background=background_upsampler,  # type: ignore[arg-type]
            faces="center" if only_center_face else "all",
            aligned=aligned,
        )
        started = time.perf_counter()
        photo = images.read(LocalPath(str(img)), name="img")
        file_format = images.chosen_format(photo, output_format)
        restoration = self._restorer_for(version).restore(photo, options)
        for part, seconds in restoration.seconds.items():
            self.record_metric(f"{part}_seconds", round(seconds, 4))
        self.record_metric("faces", len(restoration.faces))
        path = self.folder / f"restored.{file_format}"
        restoration.save(path)
        _logger.info("%d faces, %.1f s", len(restoration.faces), time.perf_counter() - started)
        return Path(path)

    def _restorer_for(self, version: str) -> FaceRestorer:
        if self.own:
            return self.own
        if version not in self.restorers:
            self.restorers[version] = self._restorer(load(version, self.device))
        return self.restorers[version]

    def _restorer(self, network: Network) -> FaceRestorer:
        return FaceRestorer(network, self.detector, self.masker, self.device)
