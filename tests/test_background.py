from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import real_weights
from torch import Tensor, nn

from gfpgan_core import background, compat, geometry
from gfpgan_core.background import BackgroundUpsampler, load_background
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.images import ImageU8


class _Doubling(nn.Module):
    """Nearest-neighbor enlargement that runs out of memory above a number of pixels."""

    def __init__(self, limit_px: int, message: str) -> None:
        super().__init__()
        self.limit_px, self.message = limit_px, message
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(x.shape[-1] * x.shape[-2])
        if self.sizes[-1] > self.limit_px:
            raise RuntimeError(self.message)
        return F.interpolate(x, scale_factor=2, mode="nearest")


_OUT_OF_MEMORY = "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"


@pytest.mark.parametrize(("height", "width"), [(100, 130), (401, 33), (800, 400)])
def test_tiles_cover_the_image_exactly(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    enlarged = BackgroundUpsampler(_Doubling(10**9, ""), 2, tile_px=64)(
        image, (2 * width, 2 * height)
    )
    assert np.array_equal(enlarged, image.repeat(2, axis=0).repeat(2, axis=1))


def test_tiles_shrink_until_memory_suffices() -> None:
    image = np.full((300, 300, 3), 50, np.uint8)
    network = _Doubling(197 * 197, _OUT_OF_MEMORY)
    enlarged = BackgroundUpsampler(network, 2, tile_px=400)(image, (600, 600))
    assert enlarged.shape == (600, 600, 3) and (enlarged == 50).all()
    assert network.sizes[:3] == [300 * 300, 200 * 200, 148 * 148]  # 300, 150, 100 px and context


def test_memory_that_never_suffices_is_said_and_other_errors_arent_retried() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    with pytest.raises(MemoryError, match="--background none"):
        BackgroundUpsampler(_Doubling(1, _OUT_OF_MEMORY), 2)(image, (600, 600))
    broken = _Doubling(1, "shapes don't match")
    with pytest.raises(RuntimeError, match="shapes don't match"):
        BackgroundUpsampler(broken, 2)(image, (600, 600))
    assert len(broken.sizes) == 1


def test_any_size_is_reached() -> None:
    image = np.full((50, 70, 3), 9, np.uint8)
    for size_wh in ((70, 50), (105, 75), (333, 211)):
        enlarged = BackgroundUpsampler(_Doubling(10**9, ""), 2)(image, size_wh)
        assert enlarged.shape == (size_wh[1], size_wh[0], 3)


def test_an_unknown_network_is_refused_with_the_names_of_the_others() -> None:
    with pytest.raises(InputError, match="background is 'waifu'; allowed: none, realesrgan-x4v3"):
        load_background("waifu")


def test_a_network_without_its_weights_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"realesr-general-x4v3.pth \(5 MB\)"):
        load_background("realesrgan-x4v3")


def test_both_network_kinds_are_told_by_their_names_and_give_their_own_pictures(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    compat.restore_functional_tensor()
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    folder = tmp_path_factory.mktemp("backgrounds")
    for network, scale in (
        (RRDBNet(3, 3, scale=2, num_feat=64, num_block=2, num_grow_ch=32), 2),
        (SRVGGNetCompact(3, 3, 64, 32, 4, "prelu"), 4),
    ):
        last = [m for m in network.modules() if isinstance(m, nn.Conv2d)][-1]
        with torch.no_grad():  # so that the levels vary
            last.weight.mul_(20)
            last.bias.fill_(0.5)  # type: ignore[union-attr]
        path = folder / f"{type(network).__name__}.pth"
        torch.save({"params": network.state_dict()}, path)
        upsampler = background.load_background_file(path, scale)
        assert upsampler(np.zeros((21, 33, 3), np.uint8), (66, 42)).shape == (42, 66, 3)
        image = np.random.default_rng(1).integers(0, 256, (72, 96, 3), dtype=np.uint8)
        levels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            expected = network(levels)[0].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
        found = upsampler(image, (96 * scale, 72 * scale))
        assert expected.std() > 10
        assert np.abs(found - expected).max() < 0.51  # 0.5 of it is rounding


@pytest.mark.real_weights
@pytest.mark.parametrize("name", ["realesr-animevideov3_fp16.pth", "RealESRGAN_x4plus_fp16.pth"])
def test_real_weights_enlarge_better_than_interpolation(name: str, portrait: ImageU8) -> None:
    upsampler = background.load_background_file(real_weights(name), 4)
    gt = portrait[40:200, 140:300]
    small = np.asarray(geometry.resize(gt, (40, 40)), np.uint8)
    enlarged = upsampler(small, (160, 160)).astype(float)
    plain = geometry.resize(small, (160, 160)).astype(float)

    def edges(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=1)).mean())

    assert np.abs(enlarged - plain).mean() < 20  # the same picture (another differs by 60) ...
    assert edges(enlarged) > 1.1 * edges(plain)  # ... but sharper


def _loud_srvgg() -> nn.Module:
    """A random network of the default background's shape whose every pixel sees 34 px far."""
    compat.restore_functional_tensor()
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    torch.manual_seed(0)
    network = SRVGGNetCompact(3, 3, 64, 32, 4, "prelu")
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.orthogonal_(module.weight.data.flatten(1))
            module.weight.data.mul_(1.2)
    return network


def test_tiles_leave_no_seams(portrait: ImageU8, tmp_path: Path) -> None:
    torch.save({"params": _loud_srvgg().state_dict()}, tmp_path / "loud.pth")
    upsampler = background.load_background_file(tmp_path / "loud.pth", 4)
    whole = upsampler(portrait[:157, :158], (632, 628)).astype(int)
    upsampler.tile_px = 62

    def largest_difference() -> int:
        tiled = upsampler(portrait[:157, :158], (632, 628)).astype(int)
        return int(np.abs(tiled - whole).max())

    # Sums in another order differ by far less than a level, and are rounded to the same level or
    # to neighbors. A seam is 4 levels high.
    assert largest_difference() <= 1
    upsampler.context_px = 4
    assert largest_difference() > 1


@pytest.mark.real_weights
def test_the_large_networks_tiles_leave_hardly_a_seam(portrait: ImageU8) -> None:
    upsampler = background.load_background_file(real_weights("RealESRGAN_x4plus_fp16.pth"), 4)
    part = portrait[100:228, 150:278]
    whole = upsampler(part, (512, 512)).astype(int)
    upsampler.tile_px = 64
    difference = np.abs(upsampler(part, (512, 512)).astype(int) - whole)
    assert (difference > 1).mean() < 0.001 and difference.max() < 8
