"""Settings of networks and of the pipeline: frozen, checked when made, free of torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

from gfpgan_core.bounds import MAX_OUTPUT_MEGAPIXELS, MAX_OUTPUT_SIDE_PX
from gfpgan_core.errors import InputError

MIN_SCALE, MAX_SCALE = 0.25, 8.0
AUTO_SCALE = 2.0  # where it fits

Background = Literal["none", "realesrgan-x4v3", "realesrgan-x2plus", "realesrgan-x4plus"]
FaceChoice = Literal["all", "largest", "center"]
FaceSelection = FaceChoice | tuple[int, ...]
Box = tuple[float, float, float, float]
DetectorName = Literal["auto", "centerface", "retinaface-resnet50", "retinaface-mobilenet"]
MaskKind = Literal["auto", "template", "parsing", "parsing-fast"]
Backend = Literal["auto", "torch", "winograd", "compile", "openvino", "openvino-bf16"]


def _require(holds: bool, text: str) -> None:
    if not holds:
        raise InputError(text)


@dataclass(frozen=True)
class GeneratorConfig:
    """Shape of a GFPGAN generator; the defaults are those of the v1.2, v1.3 and v1.4 releases.

    Source: GFPGAN (arXiv 2101.04061, section 3) and the hyper-parameters of the official releases.
    """

    face_size_px: int = 512
    """Side of the square crop, in and out; a power of two."""
    channel_multiplier: int = 2
    """Width of the levels from 64 px up, relative to StyleGAN2's small configuration."""
    narrow: float = 1.0
    """Width of every level, relative to StyleGAN2's."""
    style_features: int = 512
    """Length of one layer's style code."""
    mlp_layers: int = 8
    """Layers of the mapping network (only sampling the prior from z runs it; files contain it)."""
    resampling: Literal["bilinear", "fir"] = "bilinear"
    """`fir`: StyleGAN2's [1,3,3,1] filters, as in the original v1; `bilinear`: the clean form."""
    residual: bool = False
    """Add the degraded crop to the output, so that the network learns the difference only."""
    level_factors: tuple[tuple[int, float], ...] = ()
    """Width of single levels relative to the other fields: pairs of (side in pixels, factor)."""

    def __post_init__(self) -> None:
        # JSON and YAML give lists; as tuples, equal configurations compare as equal.
        pairs = tuple((int(level), float(factor)) for level, factor in self.level_factors)
        object.__setattr__(self, "level_factors", pairs)
        size = self.face_size_px
        _require(
            8 <= size <= 1024 and size & (size - 1) == 0,
            f"face_size_px is {size}; allowed: a power of two from 8 to 1024",
        )
        _require(
            self.channel_multiplier in (1, 2, 4),
            f"channel_multiplier is {self.channel_multiplier}; allowed: 1, 2, 4",
        )
        _require(0 < self.narrow <= 2, f"narrow is {self.narrow}; allowed: above 0, at most 2")
        _require(
            self.style_features > 0, f"style_features is {self.style_features}; must be positive"
        )
        _require(self.mlp_layers >= 0, f"mlp_layers is {self.mlp_layers}; must not be negative")
        _require(
            self.resampling in ("bilinear", "fir"),
            f"resampling is {self.resampling!r}; allowed: 'bilinear', 'fir'",
        )
        for level, factor in pairs:
            _require(
                level in self.levels_px and 0 < factor <= 8,
                f"level_factors has ({level}, {factor}); allowed: a level of"
                f" {', '.join(map(str, self.levels_px))} px with a factor above 0, at most 8",
            )
        _require(
            min(self.unet_channels(level) for level in self.levels_px) >= 1,
            f"narrow {self.narrow} leaves no channel at {size} px: enlarge it",
        )

    @property
    def levels_px(self) -> tuple[int, ...]:
        """Return the sides of the feature maps, from 4 px up to `face_size_px`."""
        return tuple(2**i for i in range(2, self.face_size_px.bit_length()))

    @property
    def style_count(self) -> int:
        """Return the number of style codes: two convolutions a level, and the last RGB layer."""
        return 2 * len(self.levels_px)

    def decoder_channels(self, level_px: int) -> int:
        """Return the channels of the StyleGAN2 decoder at a level."""
        return int(self._full_channels(level_px) * self.narrow)

    def unet_channels(self, level_px: int) -> int:
        """Return the channels of the U-Net at a level: half of the decoder's."""
        return int(self._full_channels(level_px) * (self.narrow * 0.5))

    def _full_channels(self, level_px: int) -> float:
        factor = dict(self.level_factors).get(level_px, 1)
        return full_channels(level_px, self.channel_multiplier) * factor


def full_channels(level_px: int, channel_multiplier: int) -> int:
    """Return StyleGAN2's channels at a level: 512 up to 32 px, then halved from level to level."""
    return 512 if level_px <= 32 else 16384 // level_px * channel_multiplier


@dataclass(frozen=True)
class RestoreFormerConfig:
    """Shape of RestoreFormer; the defaults are the official release's.

    Source: RestoreFormer (arXiv 2201.06374), as packaged with GFPGAN 1.3.8.
    """

    face_size_px: int = 512
    base_channels: int = 64
    channel_factors: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    """Width of each level relative to `base_channels`, from full size down."""
    blocks_per_level: int = 2
    attention_px: int = 16
    """Levels with feature maps of this side have attention."""
    heads: int = 8
    latent_channels: int = 256
    codebook_size: int = 1024

    def __post_init__(self) -> None:
        lowest = self.face_size_px >> (len(self.channel_factors) - 1)
        _require(
            lowest == self.attention_px,
            f"the lowest level is {lowest} px, attention_px {self.attention_px}: they must agree",
        )
        _require(
            self.base_channels % 32 == 0,
            f"base_channels is {self.base_channels}; 32 must divide it",
        )


NetworkConfig = GeneratorConfig | RestoreFormerConfig


@dataclass(frozen=True)
class RestoreOptions:
    """What to do with one photo."""

    scale: float | Literal["auto"] = "auto"
    """Side of the result relative to the input's: exactly round(side * scale) px.

    `auto`: the largest up to 2 whose result is within the limits.
    """
    blend: float | Literal["auto"] = 1.0
    """Share of the restored face: 0 leaves the faces as they are, 1 replaces them.

    `auto`: for each face as much as its damage asks for."""
    background: Background = "none"
    """How everything but the faces is enlarged: `none` is Lanczos interpolation."""
    upscale_faces: bool = False
    """Enlarge restored faces by the background's network as well, where the result shows them
    larger than the network that restores them makes them. Needs a background network and a scale
    above 2."""
    faces: FaceSelection = "all"
    """Which of the faces found are restored; numbers count them from left to right, from 1.

    Faces that are named by number are restored whatever their size."""
    boxes: tuple[Box, ...] = ()
    """(left, top, right, bottom) in pixels of the photo, upright: faces are looked for in each of
    them, enlarged, and nowhere else. Empty: in the whole photo."""
    aligned: bool = False
    """The photo is one aligned, square face: no detection; the whole crop is the result."""
    min_eye_distance_px: float = 5.0
    """Smaller faces are left alone. 5 is upstream's. Measured by the crop's scale, as if each face
    looked into the camera: a profile counts by its height, not by how near its eyes appear."""
    max_eye_distance_px: float = math.inf
    """Larger faces are left alone."""
    min_score: float = 0.5
    """Detections below it are left alone, 0..1."""
    page: int = 1
    """Page of a TIFF or frame of an animation, from 1."""
    deinterlace: bool = False
    """Take the even lines only, for a still from interlaced video; the others are interpolated."""
    keep_gray: bool = True
    """Keep a black-and-white photo so; if off, its faces get the colors that the network gives."""
    size_rounding: Literal["nearest", "down"] = "nearest"
    """How the result's sides are rounded where the scale makes a fraction of a pixel."""

    def __post_init__(self) -> None:
        _require(
            self.scale == "auto"
            # refuses nan as well
            or (not isinstance(self.scale, str) and MIN_SCALE <= self.scale <= MAX_SCALE),
            f"scale is {self.scale}; allowed: {MIN_SCALE:g} to {MAX_SCALE:g}, or auto",
        )
        _require(
            self.blend == "auto" or (not isinstance(self.blend, str) and 0 <= self.blend <= 1),
            f"blend is {self.blend}; allowed: 0 to 1, or auto",
        )
        _require(
            self.background in get_args(Background),
            f"background is {self.background!r}; allowed: {', '.join(get_args(Background))}",
        )
        self._check_upscale_faces()
        _require(
            self.faces in get_args(FaceChoice)
            or (isinstance(self.faces, tuple) and bool(self.faces) and min(self.faces) >= 1),
            f"faces is {self.faces!r}; allowed: {', '.join(get_args(FaceChoice))}, or numbers from"
            " 1 on",
        )
        for box in self.boxes:
            left, top, right, bottom = box
            _require(
                left < right and top < bottom and all(map(math.isfinite, box)),
                f"box is {', '.join(f'{side:g}' for side in box)}; allowed: left, top, right,"
                " bottom in pixels, left before right and top before bottom",
            )
        _require(
            0 <= self.min_eye_distance_px <= self.max_eye_distance_px,
            f"min_eye_distance_px is {self.min_eye_distance_px}, max_eye_distance_px"
            f" {self.max_eye_distance_px}; allowed: 0 and above, the first not above the second",
        )
        _require(0 <= self.min_score <= 1, f"min_score is {self.min_score}; allowed: 0 to 1")
        _require(
            self.size_rounding in ("nearest", "down"),
            f"size_rounding is {self.size_rounding!r}; allowed: nearest, down",
        )
        _require(self.page >= 1, f"page is {self.page}; allowed: 1 and above")

    def _check_upscale_faces(self) -> None:
        if not self.upscale_faces:
            return
        _require(
            self.background != "none",
            "upscale_faces is on and background is none: choose the network that enlarges the"
            f" faces as background ({', '.join(get_args(Background)[1:])})",
        )
        _require(
            not isinstance(self.scale, str) and self.scale > AUTO_SCALE,
            f"upscale_faces is on and scale is {self.scale}; allowed with it: above"
            f" {AUTO_SCALE:g}, up to {MAX_SCALE:g} (auto is at most {AUTO_SCALE:g}): enlarge the"
            " scale, or leave upscale_faces off",
        )

    def scale_for(self, width: int, height: int) -> float:
        """Return the scale of a photo's result: `auto` depends on its size."""
        if self.scale != "auto":
            return self.scale
        fitting = largest_scale(width, height)
        return AUTO_SCALE if fitting >= AUTO_SCALE else fitting

    def output_size_wh(self, width: int, height: int) -> tuple[int, int]:
        """Return the result's size in pixels.

        Raises:
            InputError: it is larger than allowed, or empty.
        """
        scale = self.scale_for(width, height)
        rounded = round if self.size_rounding == "nearest" else int
        size_wh = rounded(width * scale), rounded(height * scale)
        _require(
            min(size_wh) >= 1,
            f"scale {scale} makes {width}x{height} px vanish: enlarge it",
        )
        _require(
            size_wh[0] * size_wh[1] <= MAX_OUTPUT_MEGAPIXELS * 1e6
            and max(size_wh) <= MAX_OUTPUT_SIDE_PX,
            f"{width}x{height} px at scale {scale:g} makes {size_wh[0]}x{size_wh[1]} px; allowed"
            f" are at most {MAX_OUTPUT_MEGAPIXELS} megapixels and {MAX_OUTPUT_SIDE_PX} px a side:"
            f" choose a scale of at most {largest_scale(width, height):g}, or resize the photo",
        )
        return size_wh


def parse_faces(text: str) -> FaceSelection:
    """Return the choice that a text names: `all`, `largest`, `center`, or numbers such as `1,3`.

    Raises:
        InputError: anything else.
    """
    if text in get_args(FaceChoice):
        return cast(FaceChoice, text)
    parts = [part.strip() for part in text.split(",")]
    _require(
        all(part.isascii() and part.isdecimal() and 0 < len(part) <= 4 for part in parts)
        and all(int(part) >= 1 for part in parts),
        f"faces is {text[:80]!r}; allowed: {', '.join(get_args(FaceChoice))}, or numbers from left"
        " to right such as 1,3",
    )
    return tuple(sorted({int(part) for part in parts}))


def largest_scale(width: int, height: int) -> float:
    """Return the largest scale whose result is allowed, in hundredths."""
    by_area = math.sqrt(MAX_OUTPUT_MEGAPIXELS * 1e6 / (width * height))
    by_side = MAX_OUTPUT_SIDE_PX / max(width, height)
    hundredths = math.floor(100 * min(by_area, by_side))
    # Rounding the sides up may pass the area by a little.
    while round(width * hundredths / 100) * round(height * hundredths / 100) > (
        MAX_OUTPUT_MEGAPIXELS * 1e6
    ):
        hundredths -= 1
    return hundredths / 100
