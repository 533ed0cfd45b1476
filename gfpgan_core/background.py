"""The whole photo enlarged by a Real-ESRGAN network, tile by tile."""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gfpgan_core import compat, geometry
from gfpgan_core.backends import Runner, load_backend
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.images import ImageU8
from gfpgan_core.runtime import is_out_of_memory
from gfpgan_core.tiling import even_parts
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.download import ensure_present
from gfpgan_core.weights.load import load_strictly
from gfpgan_core.weights.releases import BACKGROUNDS

_logger = logging.getLogger(__name__)

_TILE_PX = 400
_MIN_TILE_PX = 64
# Context around a tile that is computed and thrown away. SRVGGNetCompact sees as far as it has
# convolutions: with that there are no seams. RRDBNet sees too far for that. Tiles of x4plus differ
# from the whole picture by up to 74 gray levels at upstream's 10 px, at 18 and at 34; at 48 by 4 at
# most, and in 1 value of 4000 by more than 1.
_CONTEXT_PX = 48

_SIDE_MULTIPLE_PX = 4  # x2plus needs even sides, Winograd whole tiles

_LARGEST_FACE_UPSCALE = 4  # what the networks are made for; an aligned face is 2048 px then

_NATIVE_SCALE = {"realesrgan-x4v3": 4, "realesrgan-x2plus": 2, "realesrgan-x4plus": 4}


@dataclass(eq=False)
class BackgroundUpsampler:
    """A Real-ESRGAN network and its scale; images in, images of any wanted size out."""

    run: Runner
    """Takes tiles (N, 3, H, W) of 0..1, float32, and gives them `native_scale` times as large."""
    native_scale: int
    device: str = "cpu"
    tile_px: int = _TILE_PX
    context_px: int = _CONTEXT_PX
    """How much around a tile the network sees as well, in pixels of the input."""

    def __call__(self, image: ImageU8, size_wh: tuple[int, int]) -> ImageU8:
        """Return (H, W, 3) RGB enlarged to `size_wh`; halve the tiles as long as memory runs out.

        Raises:
            MemoryError: even the smallest tiles don't fit.
        """
        tile_px = self.tile_px
        while True:
            try:
                enlarged = self._enlarge(image, tile_px)
                return np.asarray(geometry.resize(enlarged, size_wh), np.uint8)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if tile_px // 2 < _MIN_TILE_PX:
                    raise MemoryError(
                        f"memory doesn't suffice for tiles of {tile_px} px: use a smaller photo or"
                        " --background none"
                    ) from error
                _logger.warning("out of memory with tiles of %d px: halving them", tile_px)
                tile_px //= 2
            if self.device != "cpu":
                torch.cuda.empty_cache()

    @torch.inference_mode()
    def _enlarge(self, image: ImageU8, tile_px: int) -> ImageU8:
        scale = self.native_scale
        height, width = image.shape[:2]
        result = np.empty((height * scale, width * scale, 3), np.uint8)
        rows, columns = even_parts(height, tile_px), even_parts(width, tile_px)
        for (y, bottom), (x, right) in itertools.product(rows, columns):
            top_seen, left_seen = self._seen_from(y), self._seen_from(x)
            part = image[top_seen : bottom + self.context_px, left_seen : right + self.context_px]
            seen = self._run_padded(part)
            inner = seen[(y - top_seen) * scale :, (x - left_seen) * scale :]
            size = ((bottom - y) * scale, (right - x) * scale)
            result[y * scale : bottom * scale, x * scale : right * scale] = inner[
                : size[0], : size[1]
            ]
        return result

    def _seen_from(self, start: int) -> int:
        """Return where a tile's context starts: a whole number of steps from the image's border.

        So what is padded at the far border is what the whole image would be padded by.
        """
        seen_from = max(start - self.context_px, 0)
        return seen_from - seen_from % _SIDE_MULTIPLE_PX

    def _run_padded(self, part: ImageU8) -> ImageU8:
        """Return one tile enlarged, of any size."""
        height, width = part.shape[:2]
        missing = -height % _SIDE_MULTIPLE_PX, -width % _SIDE_MULTIPLE_PX
        padded = np.pad(part, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        planes = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))
        output = self.run(planes[None].to(self.device).float() / 255)
        levels = output[0].clamp_(0, 1).mul_(255).round_().byte()
        enlarged = levels.permute(1, 2, 0).cpu().numpy()
        scale = self.native_scale
        return np.asarray(enlarged[: height * scale, : width * scale], np.uint8)


def face_upscale(crop_from_image: geometry.Transform, scale: float) -> int:
    """Return by how much a restored crop is worth enlarging for a result at this scale.

    A whole number, up to 4: at least as many pixels as the result shows of the face. 1 where the
    crop itself has as many, so that a network could only make up what is then reduced again.
    """
    needed = math.ceil(round(scale / geometry.scale_of(crop_from_image), 3))
    return max(1, min(needed, _LARGEST_FACE_UPSCALE))


@cache
def load_background(name: str, device: str = "cpu") -> BackgroundUpsampler:
    """Return one of the Real-ESRGAN networks by name; loaded once in a process.

    Raises:
        InputError: unknown name.
        WeightsError: its weights can't be had.
    """
    if name not in BACKGROUNDS:
        raise InputError(f"background is {name!r}; allowed: none, {', '.join(BACKGROUNDS)}")
    return load_background_file(
        ensure_present(BACKGROUNDS[name]), _NATIVE_SCALE[name], device, BACKGROUNDS[name].sha256
    )


def load_background_file(
    path: Path, native_scale: int, device: str = "cpu", sha256: str = ""
) -> BackgroundUpsampler:
    """Return a Real-ESRGAN network from a file, RRDBNet or SRVGGNetCompact as its names tell.

    Raises:
        WeightsError: unreadable, of another kind, or not of the sha256 that is given.
    """
    state, _ = read_state(path, sha256)
    network = _network_for(state, native_scale, path)
    load_strictly(network, state, path)
    run = load_backend(network.requires_grad_(False), "auto", device)
    return BackgroundUpsampler(run, native_scale, device, context_px=_context_px(network))


def _context_px(network: nn.Module) -> int:
    """Return how far the network sees, as far as that is worth while."""
    convolutions = sum(isinstance(module, nn.Conv2d) for module in network.modules())
    return min(convolutions, _CONTEXT_PX)  # 3x3 and one after the other: a pixel each


def _network_for(state: dict[str, Tensor], native_scale: int, path: Path) -> nn.Module:
    """Return the untrained network of the file's kind and depth."""
    numbers = [name.split(".")[1] for name in state if name.startswith("body.")]
    last = max((int(number) for number in numbers if number.isdecimal()), default=0)
    # A kind of network numbers its layers without gaps, each with one tensor at least.
    if not len(numbers) >= 3 or not 1 <= last < len(numbers):
        raise WeightsError(f"{path} holds no Real-ESRGAN network of a known kind")
    compat.restore_functional_tensor()
    if any(name.startswith("conv_first") for name in state):
        from basicsr.archs.rrdbnet_arch import RRDBNet

        return RRDBNet(3, 3, scale=native_scale, num_feat=64, num_block=1 + last, num_grow_ch=32)
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    # first convolution and activation, `depth` pairs of both, last convolution
    return SRVGGNetCompact(3, 3, 64, (last - 2) // 2, native_scale, act_type="prelu")
