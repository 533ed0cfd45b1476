"""Upstream's `GFPGANer` over `FaceRestorer`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import Detector
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.runtime import checked_device
from gfpgan_core.upstream import background, crops
from gfpgan_core.upstream.arrays import AnyPicture, as_bgr, flipped
from gfpgan_core.upstream.face_helper import FaceHelper, FaceLists
from gfpgan_core.upstream.models import load_network
from gfpgan_core.upstream.parts import movable_detector, movable_masker

# (crops before restoration, after it, the photo or None), all BGR.
Enhanced = tuple[list[ImageU8], list[ImageU8], ImageU8 | None]


class Generator(nn.Module):
    """The restoration network, to be moved, or called as upstream's is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, **_: Any) -> tuple[Tensor, list[Tensor]]:
        """Return the restored crops (N, 3, size, size), about -1..1, and no pyramid."""
        return self.network(x), []


class GFPGANer:
    """Restores the faces in a photo; takes and gives what gfpgan 1.3.8's class of this name does.

    Calls from several threads don't mix their faces.
    """

    def __init__(
        self,
        model_path: Path | str,
        upscale: float = 2,
        arch: str = "clean",
        channel_multiplier: int = 2,
        bg_upsampler: Any = None,
        device: torch.device | str | None = None,
        *,
        detection_model_path: Path | str | None = None,
        parse_model_path: Path | str | None = None,
        model_rootpath: Path | str | None = None,
        detector: str | Detector = "auto",
        mask: str = "auto",
        backend: str = "auto",
        **others: Any,
    ) -> None:
        """Load the networks; an official file that is missing is fetched and verified.

        Args:
            model_path: a file; an official file's name or address, or such a path; an https
                address of others; a version of ours, such as `compact`.
            upscale: side of the result relative to the photo's.
            arch: `clean`, `original`, `bilinear` or `RestoreFormer`: the file must agree.
            channel_multiplier: the file must agree; RestoreFormer has none.
            bg_upsampler: None, an object with `enhance(img, outscale=...)`, or one of our names.
            device: None: a GPU where there is one.
            detection_model_path: file of facexlib's RetinaFace ResNet-50.
            parse_model_path: file of facexlib's ParseNet.
            model_rootpath: folder in which facexlib keeps these two; what is missing is left to
                `detector` and `mask`.
            detector: a name of `gfpgan_core.detect`, or a detector.
            mask: a name of `gfpgan_core.masks`.
            backend: a name of `gfpgan_core.backends`.

        Raises:
            TypeError: another argument.
            InputError: `arch` or `channel_multiplier` isn't the file's, or an unknown name.
            WeightsError: weights can't be had, or are damaged.
        """
        if others:
            raise TypeError(
                f"GFPGANer doesn't know {', '.join(sorted(others))}; beside upstream's arguments it"
                " takes detection_model_path, parse_model_path, model_rootpath, detector, mask and"
                " backend"
            )
        RestoreOptions(scale=upscale)  # refuses what can't be
        self.device = torch.device(checked_device(None if device is None else str(device)))
        where = str(self.device)
        self.bg_upsampler = background.checked(bg_upsampler, where)
        network = load_network(model_path, arch, channel_multiplier).to(where)
        self.gfpgan = Generator(network)
        self.face_helper = FaceHelper(
            upscale,
            movable_detector(detector, detection_model_path, model_rootpath, where),
            movable_masker(mask, parse_model_path, model_rootpath, where),
        )
        self._backend = backend
        self._moving = threading.Lock()
        self._restorer = self._build()

    @property
    def upscale(self) -> float:
        """Side of the result relative to the photo's."""
        return self.face_helper.upscale_factor

    @upscale.setter
    def upscale(self, upscale: float) -> None:
        self.face_helper.upscale_factor = upscale

    def enhance(
        self,
        img: AnyPicture,
        has_aligned: bool = False,
        only_center_face: bool = False,
        paste_back: bool = True,
        weight: float = 0.5,
        *,
        blend: float = 1.0,
    ) -> Enhanced:
        """Restore a photo, or one aligned face.

        Unlike upstream, which returns a face unrestored where the network fails, this raises.

        Args:
            img: BGR, BGRA or gray, of 0..255 or, where a value is above 256, of 0..65535.
            has_aligned: `img` is one face on FFHQ's template, and is resized to it.
            only_center_face: restore the face nearest to the photo's center.
            paste_back: False: the crops alone.
            weight: without effect, here as there: no network of gfpgan 1.3.8 reads it.
            blend: share of the restored face in the photo, 0..1.

        Returns:
            The crops before restoration and after it, and the photo at `upscale` with the faces in
            place: None with `has_aligned` or without `paste_back`. All BGR of 8 bits; the photo is
            BGRA where `bg_upsampler` gives an alpha channel.

        Raises:
            InputError: `img` is no usable picture.
            CropFailedError: the network gave no usable result for a face.
        """
        del weight
        bgr = as_bgr(img)
        self.face_helper.clean_all()
        if has_aligned:
            return self._restore_aligned(bgr)
        options = RestoreOptions(
            scale=self.upscale if paste_back else 1,
            blend=blend if paste_back else 0,
            faces="center" if only_center_face else "all",
            keep_gray=False,
            size_rounding="down",
        )
        enlarged = alpha = None
        upsampler = background.checked(self.bg_upsampler, str(self.device))
        if paste_back and upsampler is not None:
            size_wh = options.output_size_wh(bgr.shape[1], bgr.shape[0])
            enlarged, alpha = background.enlarge(upsampler, img, bgr, self.upscale, size_wh)
        restoration = self._current().restore(flipped(bgr), options, enlarged=enlarged)
        found = FaceLists.of(restoration, bgr)
        self.face_helper.keep(found)
        if not paste_back:
            return found.cropped_faces, found.restored_faces, None
        found.tell_way_back(restoration.image)
        return found.cropped_faces, found.restored_faces, _with_alpha(restoration.image, alpha)

    def _restore_aligned(self, bgr: ImageU8) -> Enhanced:
        restorer = self._current()
        crop = cv2.resize(bgr, (restorer.face_size_px, restorer.face_size_px))
        options = RestoreOptions(scale=1, aligned=True, keep_gray=False)
        restoration = restorer.restore(flipped(np.asarray(crop, np.uint8)), options)
        found = FaceLists.of(restoration, bgr)
        self.face_helper.keep(found)
        return found.cropped_faces, found.restored_faces, None

    def _current(self) -> FaceRestorer:
        """Return the restorer for where `gfpgan` has been moved to.

        Raises:
            InputError: its weights were changed to another type.
        """
        parameter = next(self.gfpgan.parameters())
        if parameter.dtype != torch.float32:
            raise InputError(
                f"gfpgan was changed to {parameter.dtype}: leave it in float32, from which"
                " each device's own precision is made"
            )
        with self._moving:
            if self._restorer.device != str(parameter.device):
                self._restorer = self._build()
            return self._restorer

    def _build(self) -> FaceRestorer:
        return FaceRestorer(
            self.gfpgan.network,  # type: ignore[arg-type]
            self.face_helper.face_det,
            self.face_helper.face_parse,
            str(next(self.gfpgan.parameters()).device),
            self._backend,
            align=crops.cut,
            paste=crops.lay,
        )


def _with_alpha(rgb: ImageU8, alpha: ImageU8 | None) -> ImageU8:
    """Return BGR, or BGRA if there is an alpha channel."""
    bgr = flipped(rgb)
    return bgr if alpha is None else np.dstack([bgr, alpha])
