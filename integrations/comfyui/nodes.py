"""A ComfyUI node over `FaceRestorer`: detection, restoration and pasting in one.

The class's attributes and `INPUT_TYPES` are ComfyUI's interface for nodes.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from torch import Tensor

from gfpgan_core import FaceRestorer, RestoreOptions
from gfpgan_core.config import MAX_SCALE, MIN_SCALE, Background, DetectorName
from gfpgan_core.images import ImageU8
from gfpgan_core.weights.releases import RELEASES


class RestoreFaces:
    """Restores the faces in each image of a batch."""

    CATEGORY = "image/restoration"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "restore"
    DESCRIPTION = "Finds faces, restores them with GFPGAN or RestoreFormer, and pastes them back."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 (ComfyUI's)
        """Return the inputs with their kinds and defaults."""
        share = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}
        scale = {"default": 1.0, "min": MIN_SCALE, "max": MAX_SCALE, "step": 0.25}
        return {
            "required": {
                "image": ("IMAGE",),
                "version": (list(RELEASES), {"default": "compact"}),
                "blend": ("FLOAT", share),
                "background": (list(get_args(Background)), {"default": "none"}),
                "detector": (list(get_args(DetectorName)), {"default": "auto"}),
            },
            "optional": {
                "scale": ("FLOAT", scale),
                "weights": ("STRING", {"default": "", "placeholder": "a file of your own"}),
                "upscale_faces": ("BOOLEAN", {"default": False}),
            },
        }

    def restore(
        self,
        image: Tensor,
        version: str,
        blend: float,
        background: Background,
        detector: str,
        scale: float = 1.0,
        weights: str = "",
        upscale_faces: bool = False,
    ) -> tuple[Tensor]:
        """Return (N, round(H * scale), round(W * scale), 3) of (N, H, W, 3), both RGB in 0..1.

        Raises:
            InputError, WeightsError, CropFailedError: ComfyUI shows their text at the node.
        """
        device = comfy.model_management.get_torch_device()
        restorer = _restorer(version, weights, detector, "cuda" if device.type == "cuda" else "cpu")
        options = RestoreOptions(
            scale=scale, blend=blend, background=background, upscale_faces=upscale_faces
        )
        progress = comfy.utils.ProgressBar(len(image))
        restored = []
        for photo in image[..., :3]:
            comfy.model_management.throw_exception_if_processing_interrupted()
            before = _to_u8(photo)
            after = restorer.restore(before, options).image
            restored.append(_to_unit(after, photo, before))
            progress.update(1)
        return (torch.stack(restored),)


@lru_cache(maxsize=1)
def _restorer(version: str, weights: str, detector: str, device: str) -> FaceRestorer:
    """Load networks once for all runs with the same settings."""
    if weights:
        return FaceRestorer.from_file(Path(weights), detector=detector, device=device)
    return FaceRestorer.from_release(version, detector=detector, device=device)


def _to_u8(photo: Tensor) -> ImageU8:
    levels = photo.float().clamp(0, 1).mul(255).round().byte()
    return np.asarray(levels.cpu().numpy(), np.uint8)


def _to_unit(after: ImageU8, photo: Tensor, before: ImageU8) -> Tensor:
    """Return the result in 0..1; what nothing was changed at keeps ComfyUI's finer values."""
    result = torch.from_numpy(after).to(photo).div(255)
    if after.shape != before.shape:
        return result
    return torch.where(torch.from_numpy(after == before).to(photo.device), photo, result)
