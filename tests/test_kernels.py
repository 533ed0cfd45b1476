"""The CPU's kernels, compiled ahead: the first face compiles nothing more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

# A network of another size and width, the original form, and a background network's layers.
_RUN_OTHERS = """
import torch
from gfpgan_core.backends import load_backend
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.weights.load import build
from torch import nn
config = GeneratorConfig(face_size_px=128, channel_multiplier=1, narrow=0.25, style_features=64)
load_backend(build(config).eval(), "winograd")(torch.zeros(2, 3, 128, 128))
original = GeneratorConfig(64, 1, 0.125, 64, resampling="fir")
load_backend(build(original).eval(), "winograd")(torch.zeros(1, 3, 64, 64))
convolutions = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.PReLU(64), nn.Conv2d(64, 64, 1))
load_backend(convolutions, "winograd")(torch.zeros(1, 64, 64, 96))
"""


def _run(folder: Path, cache: Path, *arguments: str) -> dict[str, tuple[int, int]]:
    """Each file of the cache with its size and time, after a command in a copy of the sources."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"NUMBA_CACHE_DIR": str(cache)}
    subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True)
    files = [path for path in cache.rglob("*") if path.is_file()]
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_kernels_compiled_in_an_images_build_serve_the_first_face(tmp_path: Path) -> None:
    """As in `cog build`: the sources are looked at under /src, and copied there later."""
    source, cache = tmp_path / "src", tmp_path / "cache"
    for name in ("gfpgan_core", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    compiled = _run(source, cache, "-m", "scripts.compile_kernels")
    assert compiled
    shutil.rmtree(source / "gfpgan_core")
    shutil.copytree(ROOT / "gfpgan_core", source / "gfpgan_core", copy_function=shutil.copyfile)
    assert _run(source, cache, "-c", _RUN_OTHERS) == compiled
