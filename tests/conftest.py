"""What several tests share: the sample portrait, releases with small random networks, and files.

torch is imported where it is needed: the process that only deals tests out to others, and children
that want one name of this file, begin without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gfpgan_core import geometry, images
from gfpgan_core.config import GeneratorConfig, RestoreOptions
from gfpgan_core.images import ImageU8

if TYPE_CHECKING:
    import torch

    from gfpgan_core.networks.gfpgan import GFPGAN

ROOT = Path(__file__).parent.parent
HANG_S = 1800  # ends a process that hangs; no test depends on how long one takes
SAMPLE = ROOT / "assets" / "sample_degraded.jpg"
PORTRAIT = ROOT / "assets" / "sample.jpg"

TINY = GeneratorConfig(face_size_px=64, channel_multiplier=1, narrow=0.125, style_features=64)
# For what takes time with each layer, such as a conversion.
TINIEST = dataclasses.replace(TINY, face_size_px=16)


@pytest.fixture(scope="session")
def portrait() -> ImageU8:
    """A real photo of one face (512, 512, 3): NASA's portrait of Eileen Collins."""
    return images.read_rgb(PORTRAIT)


@pytest.fixture(scope="session")
def two_faces(portrait: ImageU8) -> ImageU8:
    """A photo with two faces, the second smaller."""
    canvas = np.full((512, 900, 3), 120, np.uint8)
    canvas[:, :512] = portrait
    canvas[100:484, 516:900] = geometry.resize(portrait, (384, 384))[:, ::-1]
    return canvas


@pytest.fixture(autouse=True)
def no_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests neither read nor fill the user's weight cache."""
    monkeypatch.setenv("GFPGAN_WEIGHTS_DIR", str(tmp_path / "weights"))


def _tinting(image: ImageU8, size_wh: tuple[int, int]) -> ImageU8:
    """Stands in for a background network: enlarges, and tints everything."""
    enlarged = geometry.resize(image, size_wh).astype(int) + np.array([12, 0, -12])
    return np.asarray(np.clip(enlarged, 0, 255), np.uint8)


@pytest.fixture
def tinting_background(monkeypatch: pytest.MonkeyPatch) -> RestoreOptions:
    """Options with a background network that adds 12 to red and takes 12 from blue."""
    monkeypatch.setattr("gfpgan_core.pipeline.load_background", lambda name, device: _tinting)
    return RestoreOptions(scale=2, background="realesrgan-x4v3")


def random_network(seed: int, config: GeneratorConfig = TINY) -> GFPGAN:
    """A network whose output differs visibly from its input and from another seed's."""
    import torch
    import upstream

    from gfpgan_core.networks.gfpgan import GFPGAN

    torch.manual_seed(seed)
    network = GFPGAN(dataclasses.replace(config, residual=True))
    upstream.fill_zeros(network)
    return network


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file as a training exports it."""
    from gfpgan_core.weights.checkpoint import save_safetensors

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_safetensors(random_network(3), path)
    return path


def real_weights(name: str) -> Path:
    """A file in the folder of real weights, or a visible skip."""
    folder = os.environ.get("GFPGAN_TEST_WEIGHTS", "")
    path = Path(folder) / name
    if not folder or not path.is_file():
        pytest.skip(f"needs {name} in the folder GFPGAN_TEST_WEIGHTS")
    return path


def png_header(width: int, height: int) -> bytes:
    """The start of a PNG: its header, and the first bytes of its pixels."""
    chunks = b""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for body in (b"IHDR" + header, b"IDAT" + zlib.compress(bytes(1000))):
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture(scope="session")
def faces(portrait: ImageU8, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five different square crops of a real photo, 96 px."""
    folder = tmp_path_factory.mktemp("faces")
    for i in range(5):
        crop = np.asarray(
            geometry.resize(portrait[10 * i : 200 + 10 * i, 120:320], (96, 96)), np.uint8
        )
        images.write(folder / f"{i}.png", images.encode(crop, None, "png"))
    return folder


@pytest.fixture(scope="session")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Random weights: what the features see doesn't matter here."""
    import torch
    import torchvision

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("features") / "mobilenet.pth"
    torch.save(torchvision.models.mobilenet_v2().state_dict(), path)
    return str(path)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny networks gain nothing from more, which wait for each other on a busy machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save_named(state: dict[str, torch.Tensor], folder: Path, stem: str) -> str:
    """Save under a name that ends with the sha256's first digits, as torchvision's; return it."""
    import torch

    path = folder / "new.pth"
    torch.save(state, path)
    name = f"{stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    path.rename(folder / name)
    return name
