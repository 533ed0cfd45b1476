"""Networks built and given the weights of a release or of a file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gfpgan_core.config import GeneratorConfig, NetworkConfig
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.networks.restoreformer import RestoreFormer
from gfpgan_core.weights import convert
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.download import fetch
from gfpgan_core.weights.releases import COMPACT_FILE, RELEASES

Network = GFPGAN | RestoreFormer


def load(version: str, device: str = "cpu") -> Network:
    """The network of a release, in eval mode.

    Raises:
        InputError: unknown version.
        WeightsError: its file can't be had or doesn't fit.
    """
    release = RELEASES.get(version)
    if release is None:
        raise InputError(f"version is {version!r}; allowed: {', '.join(RELEASES)}")
    if release.file is None:
        path = Path(__file__).parent.parent / "shipped" / COMPACT_FILE
    else:
        path = fetch(release.file)
    state, _ = read_state(path)
    if convert.is_equalised(state):
        state = convert.to_clean(state)
    return _fill(release.config, state, path, device)


def load_file(
    path: Path, device: str = "cpu", resampling: Literal["bilinear", "fir"] = "bilinear"
) -> GFPGAN:
    """The network in a file of one's own: the outcome of a training, ours or upstream's.

    The configuration comes from a safetensors file's metadata, else from the shapes. Checkpoints
    with equalised learning rates don't tell how they resample: `resampling` does, "bilinear" for
    upstream's GFPGANBilinear, "fir" for its GFPGANv1.

    Raises:
        WeightsError: no readable weights, or not those of a GFPGAN generator.
    """
    state, metadata = read_state(path)
    if "generator_config" in metadata:
        config = _config_from_metadata(metadata["generator_config"], path)
    else:
        equalised = convert.is_equalised(state)
        state = convert.to_clean(state) if equalised else state
        config = config_of(state, path)
        if equalised:
            config = dataclasses.replace(config, resampling=resampling)
    network = _fill(config, state, path, device)
    assert isinstance(network, GFPGAN)
    return network


def config_of(state: dict[str, Tensor], path: Path) -> GeneratorConfig:
    """The configuration that a clean generator's shapes tell.

    Raises:
        WeightsError: not a clean GFPGAN generator.
    """
    try:
        levels = 1 + sum(name.endswith("skip.weight") for name in state if "body_down" in name)
        decoder = "stylegan_decoder."
        base = state[decoder + "constant_input.weight"].shape[1]
        top = state[decoder + f"style_convs.{2 * levels - 3}.bias"].shape[1]
        style_features = state[decoder + "style_conv1.modulated_conv.modulation.weight"].shape[1]
        if "conv_body_first.weight" not in state:
            raise KeyError("conv_body_first.weight")
    except KeyError as error:
        raise WeightsError(
            f"{path} holds no GFPGAN generator in the clean form: {error} is missing"
        ) from error
    size = 2 ** (levels + 1)
    narrow = base / 512
    multiplier = 1 if size <= 32 else round(top * size / (16384 * narrow))
    mlp_layers = sum(name.endswith("weight") for name in state if "style_mlp" in name)
    return GeneratorConfig(size, multiplier, narrow, style_features, mlp_layers)


def _config_from_metadata(text: str, path: Path) -> GeneratorConfig:
    try:
        return GeneratorConfig(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path} describes its network badly: {error}") from error


def _fill(config: NetworkConfig, state: dict[str, Tensor], path: Path, device: str) -> Network:
    """The network built without memory, then given the file's tensors; every name must fit."""
    with torch.device("meta"), _Unfilled():
        network = build(config)
    load_strictly(network, state, path)
    return network.to(device).eval().requires_grad_(False)


class _Unfilled(TorchFunctionMode):
    """Leaves out the initial values, which a tensor on `meta` has no place for.

    Computing them there imports sympy and a compiler: a second, and 140 MB.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        of_init = getattr(func, "__module__", "") == "torch.nn.init"
        if of_init or func in (Tensor.uniform_, Tensor.normal_, Tensor.mul_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build(config: NetworkConfig) -> Network:
    """The untrained network."""
    return GFPGAN(config) if isinstance(config, GeneratorConfig) else RestoreFormer(config)


def load_strictly(network: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Gives the network exactly the file's tensors, as float32.

    Raises:
        WeightsError: a name or shape is missing, left over or different.
    """
    state = {name: value.float() for name, value in state.items()}
    try:
        network.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{path} doesn't fit {type(network).__name__}: {_shorten(str(error))}"
        ) from error
    broken = [name for name, value in state.items() if not _is_finite(value)]
    if broken:
        raise WeightsError(f"{path} has values that are not finite in {broken[0]}")


def _is_finite(value: Tensor) -> bool:
    """By its bounds, which NaN and infinity reach: `isfinite` of a layer makes copies of it."""
    return value.numel() == 0 or all(bound.isfinite() for bound in value.aminmax())


def _shorten(text: str, limit: int = 600) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."


def parameter_count(network: nn.Module) -> int:
    """Learnable values."""
    return sum(math.prod(p.shape) for p in network.parameters())
