"""Change the size or width of a trained network, and keep what it has learned.

`adapted` gives a generator wider levels, fewer levels, or one more level at full size. Levels that
both have keep their weights. Wider levels, and a larger size, give the same picture at first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN

_SIGNS = 6  # channels that carry an RGB image through a leaky ReLU: the image and its negative
_SLOPE = 0.2  # of the network's leaky ReLUs

# Where the old values lie in a larger tensor: dimension -> indices. Other dimensions are whole.
Placement = dict[int, Tensor]


def adapted(network: GFPGAN, config: GeneratorConfig) -> GFPGAN:
    """Return a new generator of this configuration that starts from `network`.

    Wider levels: the same picture (their new channels have no influence yet). A larger size: the
    enlarged picture, one doubling at a time. A smaller size: the levels that remain, and a new
    first layer.

    Raises:
        InputError: the configurations differ in more than size and width, or a level is narrower.
    """
    while network.config.face_size_px > config.face_size_px:
        network = _without_largest_level(network)
    shared = _of_size(config, network.config.face_size_px)
    if network.config != shared:
        network = widened(network, shared)
    while network.config.face_size_px < config.face_size_px:
        network = _with_larger_level(network, config)
    return network


def widened(network: GFPGAN, config: GeneratorConfig) -> GFPGAN:
    """Return a generator with wider levels that gives the same picture.

    Old channels come first; in the decoder each half of the SFT keeps its own first. Outgoing
    weights of new channels are zero, incoming ones are those of a new network.

    Raises:
        InputError: the configurations differ in more than width, or a level is narrower.
    """
    old = network.config
    _require_same_shape(old, config)
    wide = GFPGAN(config)
    found = network.state_dict()
    state = {}
    for name, fresh in wide.state_dict().items():
        state[name] = _placed(found[name], fresh, *_placement(name, old, config))
    wide.load_state_dict(state)
    return wide


def _require_same_shape(old: GeneratorConfig, new: GeneratorConfig) -> None:
    widths = ("channel_multiplier", "narrow", "level_factors")
    for field in dataclasses.fields(GeneratorConfig):
        was, wanted = getattr(old, field.name), getattr(new, field.name)
        if field.name not in widths and was != wanted:
            raise InputError(
                f"the start has {field.name} {was!r}, the generator {wanted!r}: only the size and"
                " the width of levels can be changed"
            )
    for level in old.levels_px:
        if new.unet_channels(level) < old.unet_channels(level):
            raise InputError(
                f"the start has {old.unet_channels(level)} U-Net channels at {level} px, the"
                f" generator {new.unet_channels(level)}: levels can only be made wider"
            )


def _placed(old: Tensor, fresh: Tensor, output_dim: int | None, placement: Placement) -> Tensor:
    """Return `fresh` with the old values in place; an old output takes nothing from a new input."""
    if old.shape == fresh.shape:
        return old.clone()
    value = fresh.clone()
    if output_dim is not None:
        outputs = placement.get(output_dim, torch.arange(old.shape[output_dim]))
        value.index_fill_(output_dim, outputs, 0)
    indices = [placement.get(dim, torch.arange(size)) for dim, size in enumerate(old.shape)]
    value[torch.meshgrid(*indices, indexing="ij")] = old
    return value


def _placement(
    name: str, old: GeneratorConfig, new: GeneratorConfig
) -> tuple[int | None, Placement]:
    """Return a weight's output dimension (None: it has no inputs) and where its old values go."""
    outputs, inputs = _channels(name, old, new)
    last = name.rsplit(".", 1)[-1]
    if name == "stylegan_decoder.constant_input.weight" or (
        name.startswith("stylegan_decoder") and last == "bias" and "modulation" not in name
    ):
        return None, _given({1: outputs})
    if "modulation" in name:  # style code -> scales of the input channels of its convolution
        return None, _given({0: inputs})
    if last == "bias":
        return None, _given({0: outputs})
    if name == "final_linear.weight":  # its inputs are 4x4 maps, flattened channel by channel
        assert inputs is not None
        return 0, {1: (inputs[:, None] * 16 + torch.arange(16)).flatten()}
    if "modulated_conv" in name:  # (1, out, in, k, k)
        return 1, _given({1: outputs, 2: inputs})
    return 0, _given({0: outputs, 1: inputs})


def _given(placement: dict[int, Tensor | None]) -> Placement:
    return {dim: indices for dim, indices in placement.items() if indices is not None}


def _channels(
    name: str, old: GeneratorConfig, new: GeneratorConfig
) -> tuple[Tensor | None, Tensor | None]:
    """Return where a layer's old output and input channels lie among the new; None: no channels."""
    levels = old.levels_px

    def unet(level: int) -> Tensor:
        return torch.arange(old.unet_channels(level))

    def decoder(level: int) -> Tensor:
        count, wide = old.decoder_channels(level), new.decoder_channels(level)
        kept = torch.arange(count // 2)
        return torch.cat([kept, wide // 2 + torch.arange(count - count // 2)])

    part, *rest = name.split(".")
    if part == "conv_body_first":
        return unet(levels[-1]), None
    if part in ("conv_body_down", "conv_body_up"):
        index = int(rest[0])
        here = levels[-1 - index] if part == "conv_body_down" else levels[index]
        there = levels[-2 - index] if part == "conv_body_down" else levels[index + 1]
        return (unet(here) if rest[1] == "conv1" else unet(there)), unet(here)
    if part in ("final_conv", "final_linear"):
        return (unet(4) if part == "final_conv" else None), unet(4)
    if part == "toRGB":
        return None, unet(levels[int(rest[0]) + 1])
    if part in ("condition_scale", "condition_shift"):
        level = levels[int(rest[0]) + 1]
        first = rest[1] == "0"
        return (unet(level) if first else torch.arange(old.decoder_channels(level) // 2)), unet(
            level
        )
    return _decoder_channels(rest, levels, decoder)


def _decoder_channels(
    path: list[str], levels: tuple[int, ...], channels: Callable[[int], Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the decoder's part of `_channels`; `path` is the name's rest."""
    if path[0] in ("constant_input", "style_conv1"):
        return channels(4), channels(4)
    if path[0] == "to_rgb1":
        return None, channels(4)
    if path[0] == "style_convs":
        index = int(path[1])
        level = index // 2 + 1
        return channels(levels[level]), channels(levels[level - 1 + index % 2])
    if path[0] == "to_rgbs":
        return None, channels(levels[int(path[1]) + 1])
    return None, None  # the mapping network and the noise, which no width changes


def _without_largest_level(network: GFPGAN) -> GFPGAN:
    """Halve the size: the levels that remain keep their weights, the first layer is new."""
    half = network.config.face_size_px // 2
    config = _of_size(network.config, half)
    small = GFPGAN(config)
    found = network.state_dict()
    state = {}
    for name, fresh in small.state_dict().items():
        if name.startswith("conv_body_first"):
            state[name] = fresh
        else:  # the style codes of the level that is left out come last
            state[name] = found[_shifted(name, 1)][: len(fresh)].clone()
    small.load_state_dict(state)
    return small


def _with_larger_level(network: GFPGAN, config: GeneratorConfig) -> GFPGAN:
    """Double the size: what the network adds to its reduced input, enlarged.

    The new level's first channels carry the image and its negative through the leaky ReLUs to
    the old first layer, and its RGB layer is zero.

    Raises:
        InputError: the new level is too narrow for that, or resamples by `fir`.
    """
    config = _of_size(config, 2 * network.config.face_size_px)
    if config.resampling != "bilinear":
        raise InputError("only generators with resampling bilinear can grow; this one has fir")
    width = config.unet_channels(config.face_size_px)
    if width < _SIGNS:
        raise InputError(
            f"the U-Net has {width} channels at {config.face_size_px} px; to start from a smaller"
            f" network it needs {_SIGNS}: raise its factor in level_factors"
        )
    large = GFPGAN(config)
    state = large.state_dict()
    for name, value in network.state_dict().items():
        if name.startswith("final_linear"):
            state[name][: len(value)] = value
        elif not name.startswith("conv_body_first"):
            state[_shifted(name, 1)] = value.clone()
    _pass_image_on(state, network.conv_body_first)
    for name in ("modulated_conv.weight", "bias"):
        state[f"stylegan_decoder.to_rgbs.{len(config.levels_px) - 2}.{name}"].zero_()
    large.load_state_dict(state)
    return large


def _of_size(config: GeneratorConfig, size_px: int) -> GeneratorConfig:
    factors = tuple(pair for pair in config.level_factors if pair[0] <= size_px)
    return dataclasses.replace(config, face_size_px=size_px, level_factors=factors)


def _shifted(name: str, levels: int) -> str:
    """Return the name in a network with `levels` more: down blocks count from the largest on."""
    part, _, rest = name.partition(".")
    if part != "conv_body_down":
        return name
    index, _, rest = rest.partition(".")
    return f"{part}.{int(index) + levels}.{rest}"


def _pass_image_on(state: dict[str, Tensor], first: nn.Conv2d) -> None:
    """Change `state`: its first down block applies `first` to the halved image."""
    signs = torch.cat([torch.eye(3), -torch.eye(3)])  # (6, 3): RGB -> the image, its negative
    # leaky(x) - leaky(-x) = (1 + slope) x
    recombined = torch.cat([torch.eye(3), -torch.eye(3)], dim=1) / (1 + _SLOPE)  # (3, 6)
    state["conv_body_first.weight"][:_SIGNS] = signs[:, :, None, None]
    state["conv_body_first.bias"][:_SIGNS] = 0
    block = "conv_body_down.0."
    state[block + "conv1.weight"][:_SIGNS] = 0
    state[block + "conv1.weight"][:_SIGNS, :_SIGNS, 1, 1] = signs @ recombined
    state[block + "conv1.bias"][:_SIGNS] = 0
    state[block + "conv2.weight"].zero_()
    state[block + "conv2.weight"][:, :_SIGNS, 1, 1] = first.weight.detach()[:, :, 0, 0] @ recombined
    state[block + "conv2.bias"].copy_(first.bias.detach())  # type: ignore[union-attr]
    state[block + "skip.weight"].zero_()
