"""The CPU's kernels compiled ahead of the first photo: while an image is built, or at start."""

from __future__ import annotations

import torch

from gfpgan_core.backends import load_backend
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.weights.load import build

# Just wide and large enough that every layer of its levels of 32 and 64 px takes the kernels.
_SMALL = GeneratorConfig(face_size_px=64, channel_multiplier=1, narrow=0.125, style_features=64)


def compile_kernels() -> None:
    """Run each kernel once, so that numba compiles it, or reads it from its cache.

    The cache is the folder that `NUMBA_CACHE_DIR` names, else `__pycache__` beside the sources. It
    goes by the source's path and content, numba's version and the processor.
    """
    network = build(_SMALL).eval()
    size = _SMALL.face_size_px
    load_backend(network, "winograd")(torch.zeros(1, 3, size, size))
