"""Build networks and load the weights of a release or of a file into them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gfpgan_core.bounds import MAX_CONFIG_LENGTH
from gfpgan_core.config import GeneratorConfig, NetworkConfig, RestoreFormerConfig
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.networks.restoreformer import RestoreFormer
from gfpgan_core.weights import convert
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.download import ensure_present
from gfpgan_core.weights.folders import description_in, weights_file
from gfpgan_core.weights.releases import RELEASES, SHIPPED, WeightFile

Network = GFPGAN | RestoreFormer

Form = Literal["described", "clean", "equalized", "RestoreFormer"]
"""How a file holds a network: `described` files carry their configuration."""

# Only RestoreFormer has one.
_CODEBOOK = "quantize.embedding.weight"

# Types of the fields in JSON: the dataclass alone would take 0.5 for a size and "no" for True.
_FIELD_TYPES = {
    "face_size_px": (int,),
    "channel_multiplier": (int,),
    "narrow": (int, float),
    "style_features": (int,),
    "mlp_layers": (int,),
    "residual": (bool,),
}


def load(version: str, device: str = "cpu") -> Network:
    """Return the network of a release, in eval mode.

    Raises:
        InputError: unknown version.
        WeightsError: its file can't be had or doesn't fit.
    """
    release = RELEASES.get(version)
    if release is None:
        raise InputError(f"version is {version!r}; allowed: {', '.join(RELEASES)}")
    if release.file is None:
        path = SHIPPED
        state, _ = read_state(path)
    else:
        path, state = read_release(release.file)
    if convert.is_equalized(state):
        state = convert.to_clean(state)
    return _fill(release.config, state, path, device)


def load_file(
    path: Path, device: str = "cpu", resampling: Literal["bilinear", "fir"] = "bilinear"
) -> GFPGAN:
    """Return the network in a user's file: the result of a training, ours or upstream's.

    In a folder, `model.safetensors` is read. The configuration comes from a safetensors file's
    metadata, else from the folder's `config.json`, else from the shapes. Checkpoints with equalized
    learning rates don't say how they resample: pass `resampling` "bilinear" for upstream's
    GFPGANBilinear, "fir" for its GFPGANv1.

    Raises:
        WeightsError: no readable weights, or not those of a GFPGAN generator.
    """
    folder, path = path, weights_file(path)
    state, metadata = read_state(path)
    described = metadata.get("generator_config") or _description_beside(folder)
    if described:
        metadata = metadata | {"generator_config": described}
    if form_of(state, metadata) == "RestoreFormer":
        raise WeightsError(f"{path} holds RestoreFormer, not a GFPGAN generator")
    network = load_state(state, metadata, path, device, resampling)
    assert isinstance(network, GFPGAN)
    return network


def form_of(state: dict[str, Tensor], metadata: dict[str, str]) -> Form:
    """Return how a file holds its network; `clean` also where no form is recognized."""
    if "generator_config" in metadata:
        return "described"
    if _CODEBOOK in state:
        return "RestoreFormer"
    return "equalized" if convert.is_equalized(state) else "clean"


def load_state(
    state: dict[str, Tensor],
    metadata: dict[str, str],
    path: Path,
    device: str = "cpu",
    resampling: Literal["bilinear", "fir"] = "bilinear",
) -> Network:
    """Return the network for what `read_state` returned, of any form.

    Args:
        state: the file's tensors.
        metadata: the file's own.
        path: named in errors.
        device: where the network goes.
        resampling: for the `equalized` form, which doesn't say.

    Raises:
        WeightsError: not those of a known network.
    """
    form = form_of(state, metadata)
    if form == "RestoreFormer":
        return _fill(_restoreformer_config(state), state, path, device)
    if form == "described":
        config = _config_from_metadata(metadata["generator_config"], path)
    elif form == "equalized":
        state = convert.to_clean(state)
        config = dataclasses.replace(config_of(state, path), resampling=resampling)
    else:
        config = config_of(state, path)
    return _fill(config, state, path, device)


def _restoreformer_config(state: dict[str, Tensor]) -> RestoreFormerConfig:
    """Return the official network's configuration, at the width of the first convolution."""
    first = state.get("encoder.conv_in.weight")
    width = first.shape[0] if first is not None and first.ndim else 0
    is_possible = 0 < width <= 512 and width % 32 == 0
    return RestoreFormerConfig(base_channels=width) if is_possible else RestoreFormerConfig()


def read_release(file: WeightFile) -> tuple[Path, dict[str, Tensor]]:
    """Return a release's file, downloaded if it is missing, and its state dict.

    Raises:
        WeightsError: it can't be had, or what lies there is another file.
    """
    path = ensure_present(file)
    return path, read_state(path, file.sha256)[0]


def config_of(state: dict[str, Tensor], path: Path) -> GeneratorConfig:
    """Return the configuration that a clean generator's shapes tell.

    Raises:
        WeightsError: not a clean GFPGAN generator.
    """
    decoder = "stylegan_decoder."
    try:
        levels = 1 + sum(name.endswith("skip.weight") for name in state if "body_down" in name)
        base = state[decoder + "constant_input.weight"].shape[1]
        top = state[decoder + f"style_convs.{2 * levels - 3}.bias"].shape[1]
        style_features = state[decoder + "style_conv1.modulated_conv.modulation.weight"].shape[1]
        if "conv_body_first.weight" not in state:
            raise KeyError("conv_body_first.weight")
    except (KeyError, IndexError) as error:
        raise WeightsError(
            f"{path} holds no GFPGAN generator in the clean form: {error} is missing"
        ) from error
    if levels > 9 or base < 1:  # 1024 px have 9
        raise WeightsError(f"{path} holds no GFPGAN generator: {levels} levels, {base} channels")
    size = 2 ** (levels + 1)
    narrow = base / 512
    multiplier = 1 if size <= 32 else round(top * size / (16384 * narrow))
    mlp_layers = sum(name.endswith("weight") for name in state if "style_mlp" in name)
    try:
        return GeneratorConfig(size, multiplier, narrow, style_features, mlp_layers)
    except InputError as error:
        raise WeightsError(f"{path} holds no GFPGAN generator: {error}") from error


def _description_beside(folder: Path) -> str | None:
    try:
        return description_in(folder)
    except OSError as error:
        raise WeightsError(f"{folder} can't be read: {error.strerror or error}") from error


def _config_from_metadata(text: str, path: Path) -> GeneratorConfig:
    try:
        if len(text) > MAX_CONFIG_LENGTH:
            raise ValueError(f"the description has {len(text)} characters")
        fields = json.loads(text)
        for name, kind in _FIELD_TYPES.items():
            if name in fields and type(fields[name]) not in kind:
                raise ValueError(f"{name} is {str(fields[name])[:40]!r}")
        return GeneratorConfig(**fields)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise WeightsError(f"{path} describes its network badly: {_shorten(str(error))}") from error


def _fill(config: NetworkConfig, state: dict[str, Tensor], path: Path, device: str) -> Network:
    """Build the network without memory, then give it the file's tensors; every name must fit."""
    if isinstance(config, GeneratorConfig) and config.mlp_layers > len(state):
        raise WeightsError(
            f"{path} describes its network badly: {config.mlp_layers} mlp_layers, but the file"
            f" holds {len(state)} tensors"
        )
    try:
        with torch.device("meta"), _WithoutValues():
            network = build(config)
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes that no tensor can have
        raise WeightsError(f"{path} describes its network badly: {_shorten(str(error))}") from error
    load_strictly(network, state, path)
    return network.to(device).eval().requires_grad_(False)


class _WithoutValues(TorchFunctionMode):
    """Skips the initialization of tensors on `meta`, which hold no values.

    Torch's own imports sympy and a compiler for it: a second, and 140 MB. accelerate's
    `init_empty_weights` initializes on the CPU first, and imports both as well: ten times as long.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        filled = args[0] if args else kwargs.get("tensor")
        name = getattr(func, "__name__", "")
        in_place = name.endswith("_") and not name.startswith("__")  # torch's rule for its names
        if in_place and isinstance(filled, Tensor) and filled.is_meta:
            return filled
        return func(*args, **kwargs)


def build(config: NetworkConfig) -> Network:
    """Return the untrained network."""
    if isinstance(config, GeneratorConfig):
        return GFPGAN(config)
    if isinstance(config, RestoreFormerConfig):
        return RestoreFormer(config)


def load_strictly(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Give the network exactly the file's tensors, as float32.

    Raises:
        WeightsError: a name, shape or type is missing, left over or different, or a value is not
            finite.
    """
    unfit = _differences(network.state_dict(), state)
    if unfit:
        raise WeightsError(
            f"{path} doesn't fit {type(network).__name__}: {_shorten('; '.join(unfit))}"
        )
    state = {name: value.float() for name, value in state.items()}
    network.load_state_dict(state, strict=True, assign=True)
    broken = [name for name, value in state.items() if not _is_finite(value)]
    if broken:
        raise WeightsError(f"{path} has values that are not finite in {broken[0]}")


def _differences(own: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    """Name what is missing, left over, of another shape or type, before memory is asked for."""
    found = [f"{name} is missing" for name in own if name not in given]
    found += [f"{name} is left over" for name in given if name not in own]
    for name in own.keys() & given.keys():
        if own[name].shape != given[name].shape:
            sizes = [" x ".join(map(str, value.shape)) for value in (given[name], own[name])]
            found.append(f"{name} is {sizes[0]}, and should be {sizes[1]}")
        elif own[name].is_floating_point() and not given[name].is_floating_point():
            found.append(f"{name} has values of type {given[name].dtype}")
    return found


def _is_finite(value: Tensor) -> bool:
    """Return whether all values are finite, by their bounds: `isfinite` of a layer makes copies."""
    return value.numel() == 0 or all(bound.isfinite() for bound in value.aminmax())


def _shorten(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."


def parameter_count(network: nn.Module) -> int:
    """Return the number of learnable values."""
    return sum(math.prod(p.shape) for p in network.parameters())
