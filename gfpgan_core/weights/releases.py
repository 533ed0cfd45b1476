"""The weight files that the package can download, with their URLs, sizes and hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gfpgan_core.config import GeneratorConfig, NetworkConfig, RestoreFormerConfig

_GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download"
_REAL_ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download"


@dataclass(frozen=True)
class WeightFile:
    """One downloadable file."""

    name: str
    url: str
    bytes: int | None
    """None where the release doesn't say: then the sha256 alone is compared."""
    sha256: str
    license: str


@dataclass(frozen=True)
class Release:
    """A restoration network and its weights."""

    config: NetworkConfig
    file: WeightFile | None
    """None: the weights are part of the package."""


def _official(tag: str, name: str, size: int, sha256: str) -> WeightFile:
    return WeightFile(name, f"{_GFPGAN}/{tag}/{name}", size, sha256, "Apache-2.0")


SHIPPED = Path(__file__).parent.parent / "shipped" / "compact.safetensors"
"""The weights that are part of the package."""

COMPACT = GeneratorConfig(
    channel_multiplier=1,
    narrow=0.25,
    style_features=256,
    mlp_layers=0,
    residual=True,
    level_factors=((128, 2.0), (256, 2.0), (512, 2.0)),
)

RELEASES: dict[str, Release] = {
    "v1": Release(
        GeneratorConfig(channel_multiplier=1, resampling="fir"),
        _official(
            "v0.1.0",
            "GFPGANv1.pth",
            615378983,
            "6db3a33dd00dd427b8a70a7e3c6244a5bcccb818736f4861ce1d609024a991de",
        ),
    ),
    "v1.2": Release(
        GeneratorConfig(),
        _official(
            "v1.3.0",
            "GFPGANv1.2.pth",
            348632874,
            "29e25ee90c170f4231163f4c83df6b59c968b73f3ce00cb884015ae005db083c",
        ),
    ),
    "v1.3": Release(
        GeneratorConfig(),
        _official(
            "v1.3.0",
            "GFPGANv1.3.pth",
            348632874,
            "c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
        ),
    ),
    "v1.4": Release(
        GeneratorConfig(),
        _official(
            "v1.3.0",
            "GFPGANv1.4.pth",
            348632874,
            "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        ),
    ),
    "RestoreFormer": Release(
        RestoreFormerConfig(),
        _official(
            "v1.3.4",
            "RestoreFormer.pth",
            290785322,
            "07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
        ),
    ),
    "compact": Release(COMPACT, None),
}

BACKGROUNDS: dict[str, WeightFile] = {
    "realesrgan-x4v3": WeightFile(
        "realesr-general-x4v3.pth",
        f"{_REAL_ESRGAN}/v0.2.5.0/realesr-general-x4v3.pth",
        4885111,
        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        "BSD-3-Clause",
    ),
    "realesrgan-x2plus": WeightFile(
        "RealESRGAN_x2plus.pth",
        f"{_REAL_ESRGAN}/v0.2.1/RealESRGAN_x2plus.pth",
        67061725,
        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        "BSD-3-Clause",
    ),
    "realesrgan-x4plus": WeightFile(
        "RealESRGAN_x4plus.pth",
        f"{_REAL_ESRGAN}/v0.1.0/RealESRGAN_x4plus.pth",
        67040989,
        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        "BSD-3-Clause",
    ),
}

DETECTORS: dict[str, WeightFile] = {
    "retinaface-resnet50": WeightFile(
        "detection_Resnet50_Final.pth",
        f"{_FACEXLIB}/v0.1.0/detection_Resnet50_Final.pth",
        109497761,
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        "MIT",
    ),
    "retinaface-mobilenet": WeightFile(
        "detection_mobilenet0.25_Final.pth",
        f"{_FACEXLIB}/v0.1.0/detection_mobilenet0.25_Final.pth",
        1789735,
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        "MIT",
    ),
}

PARSING: dict[str, WeightFile] = {
    "parsing": WeightFile(
        "parsing_parsenet.pth",
        f"{_FACEXLIB}/v0.2.2/parsing_parsenet.pth",
        85331193,
        "3d558d8d0e42c20224f13cf5a29c79eba2d59913419f945545d8cf7b72920de2",
        "MIT",
    ),
    "parsing-fast": WeightFile(
        "parsing_bisenet.pth",
        f"{_FACEXLIB}/v0.2.0/parsing_bisenet.pth",
        53289463,
        "468e13ca13a9b43cc0881a9f99083a430e9c0a38abd935431d1c28ee94b26567",
        "MIT",
    ),
}

PRIOR = WeightFile(
    "StyleGAN2_512_Cmul1_FFHQ_B12G4_scratch_800k.pth",
    f"{_GFPGAN}/v0.1.0/StyleGAN2_512_Cmul1_FFHQ_B12G4_scratch_800k.pth",
    204535545,
    "05f5d33d79b32a3355cae3ede30e7ee06a90e56c60b1c2efe4ddd0d0e5a2959f",
    "Apache-2.0",
)

ARCFACE = WeightFile(
    "arcface_resnet18.pth",
    f"{_GFPGAN}/v0.1.0/arcface_resnet18.pth",
    None,
    "69554b3184575bdda7ecf7f40caf2b0c5ecbd0617b676d2209d8bf0e7e3d8042",
    "Apache-2.0",
)


def all_files() -> list[WeightFile]:
    """Return every downloadable file."""
    official = [release.file for release in RELEASES.values() if release.file]
    networks = [*official, *BACKGROUNDS.values(), *DETECTORS.values(), *PARSING.values()]
    return [*networks, PRIOR, ARCFACE]
