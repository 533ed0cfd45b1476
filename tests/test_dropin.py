"""Our GFPGANer against gfpgan 1.3.8's: the same weights, photo, boxes and landmarks in both."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import upstream
from numpy.typing import NDArray
from torch import Tensor, nn

from gfpgan_core import geometry, masks
from gfpgan_core.detect import Detection
from gfpgan_core.detectors import Face
from gfpgan_core.images import ImageU8
from gfpgan_core.upstream import GFPGANer

pytestmark = pytest.mark.usefixtures("one_thread")

# Every level of the networks at 512 px, and few channels in each.
_NARROW: dict[str, Callable[[], nn.Module]] = {
    "clean": lambda: _generator("clean", 2, condition=10, to_rgb=0.5),
    "original": lambda: _generator("original", 1, to_rgb=0.3),
    "bilinear": lambda: _generator("bilinear", 2, style=0.3, to_rgb=0.2),
    "RestoreFormer": lambda: upstream.restoreformer(width=32),
}


_WIDE: dict[str, Callable[[], nn.Module]] = {
    "clean": lambda: _generator("clean", 2, condition=10, to_rgb=0.5, narrow=1),
    "original": lambda: _generator("original", 1, to_rgb=0.3, narrow=1),
    "bilinear": lambda: _generator("bilinear", 2, style=0.3, to_rgb=0.2, narrow=1),
    "RestoreFormer": lambda: upstream.restoreformer(),
}


def _generator(
    form: str,
    multiplier: int,
    *,
    style: float = 1,
    condition: float = 1,
    to_rgb: float = 1,
    narrow: float = 1 / 16,
) -> nn.Module:
    """Random weights, with factors that make the output an image that depends on the input."""
    torch.manual_seed(1)
    network = upstream.generator(
        form,
        size=512,
        channel_multiplier=multiplier,
        narrow=narrow,
        style_features=round(512 * narrow),
    )
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name == "final_linear.weight":
                parameter.mul_(style)
            elif name.startswith("condition") and name.endswith(".2.weight"):
                parameter.mul_(condition)
            elif "to_rgb" in name and name.endswith("modulated_conv.weight"):
                parameter.mul_(to_rgb)
    return network


# From the crop's border to where both masks are 1: what is cleared, and what the blurs reach.
_CORE_MARGIN_PX = 92


class Told(upstream.ToldFaces):
    """The same faces for ours."""

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        return Detection(list(self.faces))


def _parsenet() -> nn.Module:
    """ParseNet with few channels, that takes every pixel for skin (class 1)."""
    from facexlib.parsing.parsenet import ParseNet

    torch.manual_seed(5)
    network = ParseNet(512, 512, base_ch=4, parsing_ch=19, res_depth=1, ch_range=[4, 4])
    with torch.no_grad():
        network.out_mask_conv.conv2d.bias[1] += 1000
    network.eval()
    assert isinstance(network, nn.Module)
    return network


class _Remembering(nn.Module):
    """Gives the outputs again that a network gave for an input: scales don't change crops."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.outputs: dict[bytes, Any] = {}

    def forward(self, x: Tensor, **options: Any) -> Any:
        key = x.numpy().tobytes()
        if key not in self.outputs:
            self.outputs[key] = self.network(x, **options)
        return self.outputs[key]


Networks = dict[str, _Remembering]


@pytest.fixture(scope="module")
def networks() -> Networks:
    """Upstream's four, with random weights."""
    return {arch: _Remembering(build()) for arch, build in _NARROW.items()}


@pytest.fixture(scope="module")
def parsenet() -> nn.Module:
    return _Remembering(_parsenet())


@pytest.fixture(scope="module")
def weights(networks: Networks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weight files as upstream's programs have it."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(_parsenet().state_dict(), folder / "parsing_parsenet.pth")
    for arch, remembering in networks.items():
        torch.save({"params_ema": remembering.network.state_dict()}, folder / f"{arch}.pth")
    return folder


@pytest.fixture(autouse=True)
def small_parsenet(monkeypatch: pytest.MonkeyPatch) -> None:
    small = dataclasses.replace(masks.PARSERS["parsing"], build=_parsenet)
    monkeypatch.setitem(masks.PARSERS, "parsing", small)


def _ours(weights: Path, arch: str, faces: Sequence[Face] = (), **more: Any) -> GFPGANer:
    return GFPGANer(
        weights / f"{arch}.pth",
        arch=arch,
        channel_multiplier=1 if arch == "original" else 2,
        device="cpu",
        detector=Told(faces),
        model_rootpath=weights,
        **more,
    )


def _face(x: float, y: float, scale: float, degrees: float) -> Face:
    """A face that lies on the template, turned, scaled and with its middle at (x, y)."""
    turn = cv2.getRotationMatrix2D((255.5, 255.5), degrees, scale)
    turn[:, 2] += np.array([x - 255.5, y - 255.5])
    landmarks = geometry.apply(np.asarray(turn), geometry.TEMPLATE_LANDMARKS)
    landmarks += np.random.default_rng(int(x)).normal(0, 2 * scale, (5, 2))  # no perfect fit
    box = np.array([*landmarks.min(axis=0), *landmarks.max(axis=0)])
    return Face(box, landmarks, 0.99)


# Small and large, turned, over the border; those that are pasted don't overlap in their cores.
# From left to right, which is the order of ours.
FACES = [
    _face(60, 195, 0.25, 0),
    _face(64, 64, 0.22, 10),
    _face(127, 130, 0.1, 80),
    _face(190, 60, 0.2, -25),
    _face(200, 195, 0.17, 170),
]


def _difference(ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.float64]:
    assert ours.dtype == np.uint8 and ours.shape == theirs.shape
    return np.asarray(np.abs(ours.astype(float) - theirs))


@pytest.mark.parametrize("arch", list(_NARROW))
def test_an_aligned_face_is_upstreams_within_a_level(
    networks: Networks, weights: Path, portrait: ImageU8, arch: str
) -> None:
    bgr = np.ascontiguousarray(portrait[60:400, 100:400, ::-1])  # resized to 512x512 by both
    theirs = upstream.gfpganer(networks[arch], _parsenet(), [])
    their_crops, their_faces, their_image = theirs.enhance(bgr, has_aligned=True)
    our_crops, our_faces, our_image = _ours(weights, arch).enhance(bgr, has_aligned=True)
    assert our_image is None and their_image is None
    assert np.array_equal(our_crops, their_crops)
    assert their_faces[0].std() > 5  # a flat picture would prove nothing
    difference = _difference(our_faces[0], their_faces[0])
    print(f"\n{arch}, aligned: restored within {difference.max():g}, mean {difference.mean():.4f}")
    assert difference.max() <= 1
    if arch != "RestoreFormer":  # which takes seconds
        mirrored = _ours(weights, arch).enhance(bgr[:, ::-1], has_aligned=True)[1][0]
        assert np.abs(mirrored.astype(float) - our_faces[0]).mean() > 2


@pytest.mark.skipif(
    not os.environ.get("GFPGAN_TEST_FULL_SIZE"),
    reason="a minute of full-size networks: set GFPGAN_TEST_FULL_SIZE=1",
)
@pytest.mark.parametrize("arch", list(_WIDE))
def test_full_size_networks_give_upstreams_photo(arch: str, tmp_path: Path, bgr: ImageU8) -> None:
    network = _WIDE[arch]()
    if arch == "RestoreFormer":  # to the range of images, as trained weights give it
        with torch.no_grad():
            network.decoder.conv_out.weight.mul_(0.25)  # type: ignore[union-attr, operator]
    torch.save({"params_ema": network.state_dict()}, tmp_path / f"{arch}.pth")
    torch.save(_parsenet().state_dict(), tmp_path / "parsing_parsenet.pth")
    theirs = upstream.gfpganer(network, _parsenet(), FACES[:1], upscale=2)
    _compare(theirs, tmp_path, bgr, FACES[:1], 2, arch)


def _core(helper: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Where exactly one face's mask is 1, and no other's is above 0; and where all are 0."""
    inner = np.zeros((512, 512), np.float32)
    inner[_CORE_MARGIN_PX:-_CORE_MARGIN_PX, _CORE_MARGIN_PX:-_CORE_MARGIN_PX] = 1
    cores, covers = np.zeros(shape[:2]), np.zeros(shape[:2])
    for matrix in helper.inverse_affine_matrices:
        cores += cv2.warpAffine(inner, matrix, shape[1::-1]) > 0.999
        covers += cv2.warpAffine(np.ones_like(inner), matrix, shape[1::-1]) > 0
    return np.stack([(cores == 1) & (covers == 1), covers == 0])


def _pasted_half_a_pixel_back(theirs: Any, bgr: ImageU8, restored: list[ImageU8]) -> NDArray[Any]:
    """Upstream's photo with its faces where they were: it shifts them by half a pixel."""
    helper = theirs.face_helper
    helper.inverse_affine_matrices.clear()
    helper.restored_faces = restored
    helper.get_inverse_affine(None)
    if helper.upscale_factor > 1:
        for matrix in helper.inverse_affine_matrices:
            matrix[:, 2] -= 0.5
    image: NDArray[Any] = helper.paste_faces_to_input_image()
    return image


@pytest.fixture(scope="module")
def bgr(portrait: ImageU8) -> ImageU8:
    """A small photo: upstream goes over the whole of it for each face."""
    small = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1], np.uint8)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("scale", [1, 2, 3.5])
def test_a_photo_is_upstreams_within_two_levels(
    networks: Networks, parsenet: nn.Module, weights: Path, bgr: ImageU8, scale: float, count: int
) -> None:
    theirs = upstream.gfpganer(networks["clean"], parsenet, FACES[:count], upscale=scale)
    _compare(theirs, weights, bgr, FACES[:count], scale)


@pytest.mark.parametrize("kind", ["gray", "alpha"])
def test_a_gray_photo_and_one_with_alpha_are_upstreams_within_two_levels(
    networks: Networks, parsenet: nn.Module, weights: Path, bgr: ImageU8, kind: str
) -> None:
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    picture = gray if kind == "gray" else np.dstack([bgr, gray])
    theirs = upstream.gfpganer(networks["clean"], parsenet, FACES[:1], upscale=2)
    _compare(theirs, weights, picture, FACES[:1], 2)


def _compare(
    theirs: Any,
    weights: Path,
    picture: NDArray[Any],
    faces: list[Face],
    scale: float,
    arch: str = "clean",
) -> None:
    ours = _ours(weights, arch, faces, upscale=scale)
    their_crops, their_faces, their_image = theirs.enhance(picture)
    our_crops, our_faces, our_image = ours.enhance(picture)
    assert len(our_crops) == len(our_faces) == len(their_crops) == len(their_faces) == len(faces)
    assert our_image is not None
    if not faces:
        assert np.array_equal(our_image, their_image)
        return
    assert all(np.array_equal(*pair) for pair in zip(our_crops, their_crops, strict=True))
    restored = [_difference(*pair) for pair in zip(our_faces, their_faces, strict=True)]
    core, outside = _core(ours.face_helper, our_image.shape)
    assert core.any() and outside.any()
    shifted = _difference(our_image, their_image)
    put_right = _difference(
        our_image, _pasted_half_a_pixel_back(theirs, ours.face_helper.input_img, their_faces)
    )
    print(
        f"\n{arch}, {len(faces)} faces, scale {scale}: restored within {np.max(restored):g}; photo"
        f" within {put_right[core].max():g} in the core (mean {put_right[core].mean():.4f}),"
        f" {put_right[outside].max():g} outside; with upstream's half pixel"
        f" {shifted[core].max():g} (mean {shifted[core].mean():.2f})"
    )
    assert np.max(restored) <= 1
    assert put_right[core].max() <= 2
    assert put_right[outside].max() <= 1
    if scale == 1:  # where upstream doesn't shift
        assert shifted[core].max() <= 2
