"""Load the network that upstream's callers name as `model_path`: a file, a name or a URL."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal, get_args
from urllib.parse import urlsplit

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.weights import hosted
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.download import cache_folder, ensure_present, is_offline, is_present
from gfpgan_core.weights.load import Form, Network, form_of, load, load_file, load_state
from gfpgan_core.weights.releases import RELEASES, WeightFile

_logger = logging.getLogger(__name__)

Arch = Literal["clean", "original", "bilinear", "RestoreFormer"]

_FORM_OF_ARCH: dict[Arch, Form] = {
    "clean": "clean",
    "original": "equalized",
    "bilinear": "equalized",
    "RestoreFormer": "RestoreFormer",
}
_ARCHS_OF_FORM: dict[Form, str] = {
    "clean": "clean",
    "equalized": "original (v1) or bilinear (what a training with the bilinear network saves)",
    "RestoreFormer": "RestoreFormer",
}

# v1.2 came out twice: in upstream's v0.2.0 under this name, in v1.3.0 as GFPGANv1.2.pth.
_OLD_NAMES = {"GFPGANCleanv1-NoCE-C2.pth": "v1.2"}
_OFFICIAL_ADDRESSES = "https://github.com/TencentARC/GFPGAN/releases/download/"


def load_network(model_path: Path | str, arch: str, channel_multiplier: int) -> Network:
    """Return the network of a file, an official name or address, a version of ours, on the CPU.

    `arch` and `channel_multiplier` are compared with the file. One that describes itself, as our
    training exports it, needs neither; RestoreFormer has no multiplier.

    Raises:
        InputError: unknown `arch`, one that isn't the file's, or no such file.
        WeightsError: the weights can't be had, or are damaged.
    """
    if arch not in get_args(Arch):
        raise InputError(f"arch is {arch!r}; allowed: {', '.join(get_args(Arch))}")
    version = _version_named(str(model_path))
    if version and not Path(model_path).is_file():
        return load(version)  # `arch` isn't asked for: none is unknown of these
    if Path(model_path).is_dir():  # of ours: its config.json describes it
        return load_file(Path(model_path))
    path, sha256 = _find(str(model_path))
    state, metadata = read_state(path, sha256)
    form = form_of(state, metadata)
    if form != "described" and form != _FORM_OF_ARCH[arch]:  # type: ignore[index]
        raise InputError(
            f"arch is {arch!r}, but {path.name} holds another network: arch {_ARCHS_OF_FORM[form]}"
        )
    network = load_state(
        state, metadata, path, resampling="fir" if arch == "original" else "bilinear"
    )
    config = network.config
    if form not in ("described", "RestoreFormer") and isinstance(config, GeneratorConfig):
        _check_multiplier(config, channel_multiplier, path)
    return network


def _check_multiplier(config: GeneratorConfig, channel_multiplier: int, path: Path) -> None:
    if config.channel_multiplier != channel_multiplier and config.face_size_px > 32:
        raise InputError(
            f"channel_multiplier is {channel_multiplier}, but {path.name} holds a network of"
            f" {config.channel_multiplier}: set it to that"
        )


def _version_named(text: str) -> str | None:
    """Return the version of ours that a word names, with or without its v."""
    return next((name for name in (text, f"v{text}") if name in RELEASES), None)


def _find(model_path: str) -> tuple[Path, str]:
    """Return where the weights are, fetched if they are missing, and the sha256 they must have.

    A file of one's own must have none, whatever it is called.

    Raises:
        InputError: no such file, and no known name.
        WeightsError: they can't be fetched.
    """
    if model_path.startswith(_OFFICIAL_ADDRESSES):
        official = _official(urlsplit(model_path).path)
        if official:
            return ensure_present(official), official.sha256
    if model_path.startswith("https://"):
        return _fetch_unknown(model_path), ""
    if model_path.startswith("http://"):
        raise InputError(
            f"{model_path} can be changed on its way: give an https address, or a file"
        )
    path = Path(model_path).expanduser()
    if path.is_file():
        return path, ""
    official = _official(model_path)
    if official is None:
        known = ", ".join([*(r.file.name for r in RELEASES.values() if r.file), *_OLD_NAMES])
        raise InputError(
            f"there is no file {model_path}; names that are fetched: {known}; versions:"
            f" {', '.join(RELEASES)}"
        )
    if is_present(official) or path.parent == Path():
        return ensure_present(official), official.sha256
    # Into the folder that was named, under the name that the program expects there.
    return ensure_present(replace(official, name=path.name), folder=path.parent), official.sha256


def _official(path: str) -> WeightFile | None:
    """Return the release's file that a path or an address ends in the name of."""
    name = PurePosixPath(path.replace(os.sep, "/")).name
    if name in _OLD_NAMES:
        return RELEASES[_OLD_NAMES[name]].file
    files = (release.file for release in RELEASES.values() if release.file)
    return next((file for file in files if file.name == name), None)


def _fetch_unknown(url: str) -> Path:
    """Return the file at an address of others, kept in the cache folder for the next time.

    Raises:
        WeightsError: it can't be had.
    """
    # Named by the URL's hash, so that an untrusted name can't replace a release.
    path = cache_folder() / "others" / hashlib.sha256(url.encode()).hexdigest()[:32]
    if path.is_file():
        return path
    if is_offline():
        raise WeightsError(f"{url} isn't in {path.parent}, and GFPGAN_OFFLINE forbids the download")
    _logger.warning(
        "%s is no official release: nothing proves that what comes is what its author published."
        " It is read safely, without running code in it",
        url.partition("?")[0],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            hosted.fetch(url, Path(folder)).replace(path)
    except OSError as error:
        raise WeightsError(f"{path.parent} can't be used: {error}") from error
    return path
