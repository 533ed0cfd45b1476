"""Weight files found, fetched, verified and loaded: the only module that opens a checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pooch
import requests
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gfpgan_core import convert
from gfpgan_core.config import GeneratorConfig, NetworkConfig
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.networks.restoreformer import RestoreFormer
from gfpgan_core.releases import COMPACT_FILE, RELEASES, WeightFile

# What damaged and foreign files make the readers raise.
_UNREADABLE = (
    OSError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    struct.error,
    pickle.UnpicklingError,
    SafetensorError,
)

_ATTEMPTS = 3
_TIMEOUT_S = 30  # without a byte, not for the whole file

Network = GFPGAN | RestoreFormer


def cache_folder() -> Path:
    """The folder that downloads go to: `GFPGAN_WEIGHTS_DIR`, or the user's cache."""
    chosen = os.environ.get("GFPGAN_WEIGHTS_DIR")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("gfpgan"))


def is_present(file: WeightFile) -> bool:
    """Whether the file lies in the cache folder (its contents are checked when it is loaded)."""
    return (cache_folder() / file.name).is_file()


def locate(file: WeightFile, *, progress: bool = True) -> Path:
    """The verified local file; downloaded first if it isn't there.

    `GFPGAN_OFFLINE=1` forbids the download. Several processes may ask at once: one downloads.

    Raises:
        WeightsError: no network, offline, wrong size or sha256. Nothing half-written stays.
    """
    folder = cache_folder()
    path = folder / file.name
    try:
        if path.is_file():
            _verify(path, file)
            return path
        if os.environ.get("GFPGAN_OFFLINE", "0") not in ("", "0"):
            raise WeightsError(f"{_how_to_get(file)}\nGFPGAN_OFFLINE forbids the download.")
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock"):
            if not path.is_file():  # else another process has just fetched it
                _download(file, folder, progress)
            _verify(path, file)
    except OSError as error:
        raise WeightsError(f"{_how_to_get(file)}\nThe folder can't be used: {error}") from error
    return path


def _download(file: WeightFile, folder: Path, progress: bool) -> None:
    """Fetches to a temporary file, compares the sha256, renames; tries again when it breaks."""
    fetcher = pooch.create(
        path=folder,
        base_url="",
        registry={file.name: f"sha256:{file.sha256}"},
        urls={file.name: file.url},
        retry_if_failed=_ATTEMPTS - 1,
    )
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT_S)
    try:
        fetcher.fetch(file.name, downloader=downloader)
    except (requests.RequestException, ValueError) as error:  # ValueError: pooch's hash mismatch
        raise WeightsError(
            f"{_how_to_get(file)}\n{_ATTEMPTS} attempts failed, the last one with: {error}"
        ) from error


def _verify(path: Path, file: WeightFile) -> None:
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        raise WeightsError(
            f"{path} has {size:,} bytes; {file.name} has {file.bytes:,}: the file is damaged or"
            " another one. Delete it, and it will be fetched anew"
        )
    found = pooch.file_hash(str(path), alg="sha256")
    if found != file.sha256:
        raise WeightsError(
            f"{path} has sha256 {found}; {file.name} has {file.sha256}: the file is damaged or"
            " another one. Delete it, and it will be fetched anew"
        )


def _how_to_get(file: WeightFile) -> str:
    size = f" ({file.bytes / 1e6:.0f} MB)" if file.bytes is not None else ""
    return (
        f"{file.name}{size} is not there. It comes from {file.url}; to put it"
        f" in place by hand, save it as {cache_folder() / file.name}."
        " The version `compact` needs no download (--version compact)."
    )


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
        path = Path(__file__).parent / "shipped" / COMPACT_FILE
    else:
        path = locate(release.file)
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


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Names to tensors, and the metadata (of safetensors files only).

    Pickles are read without running their code. `params_ema` is preferred to `params`, a bare
    state dict is taken too; `module.` prefixes of data-parallel training are dropped.

    Raises:
        WeightsError: unreadable, or no state dict.
    """
    try:
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return state, file.metadata() or {}
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise WeightsError(f"{path} can't be read as weights: {error}") from error
    for key in ("params_ema", "params"):
        if isinstance(loaded, Mapping) and key in loaded:
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path} holds no state dict")
    if not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path} holds more than tensors: export the weights of one network")
    return {name.removeprefix("module."): value for name, value in loaded.items()}, {}


def _is_safetensors(path: Path) -> bool:
    """By content: a file that went through a server may have lost its suffix."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"  # the length of a JSON header, then the header


def read_decoder(path: Path) -> dict[str, Tensor]:
    """The clean state dict of a StyleGAN2 decoder: ours, or the official prior's.

    Raises:
        WeightsError: unreadable, or of another form.
    """
    state, _ = read_state(path)
    return convert.to_clean(state) if convert.is_equalised(state) else state


def save_decoder(state: dict[str, Tensor], path: Path) -> None:
    """Writes a prior that `read_decoder` reads."""
    _save(state, path, {})


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


def save_safetensors(network: GFPGAN, path: Path) -> None:
    """Writes the weights with their configuration, so that `load_file` needs nothing else."""
    metadata = {"generator_config": json.dumps(dataclasses.asdict(network.config))}
    _save(network.state_dict(), path, metadata)


def _save(state: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    tensors = {name: value.cpu().contiguous() for name, value in state.items()}
    save_file(tensors, temporary, metadata)
    temporary.chmod(0o644)  # safetensors makes it readable by its owner alone
    temporary.replace(path)


def parameter_count(network: nn.Module) -> int:
    """Learnable values."""
    return sum(math.prod(p.shape) for p in network.parameters())
