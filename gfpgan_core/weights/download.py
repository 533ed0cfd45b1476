"""Released weight files found, fetched and verified."""

from __future__ import annotations

import os
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.releases import WeightFile

_ATTEMPTS = 3


_TIMEOUT_S = 30  # without a byte, not for the whole file


def cache_folder() -> Path:
    """The folder that downloads go to: `GFPGAN_WEIGHTS_DIR`, or the user's cache."""
    chosen = os.environ.get("GFPGAN_WEIGHTS_DIR")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("gfpgan"))


def is_offline() -> bool:
    """Return whether `GFPGAN_OFFLINE` forbids downloads, of any weights."""
    return os.environ.get("GFPGAN_OFFLINE", "0") not in ("", "0")


def is_present(file: WeightFile) -> bool:
    """Whether the file lies in the cache folder (its contents are checked when it is loaded)."""
    return (cache_folder() / file.name).is_file()


def fetch(file: WeightFile, *, progress: bool = True) -> Path:
    """Return the verified local file; download it first if it isn't there.

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
        if is_offline():
            raise WeightsError(f"{_how_to_get(file)}\nGFPGAN_OFFLINE forbids the download.")
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock"):
            if not path.is_file():  # else another process has just fetched it
                _download(file, folder, progress)
            _verify(path, file)
    except OSError as error:
        raise WeightsError(f"{_how_to_get(file)}\nThe folder can't be used: {error}") from error
    return path


locate = fetch  # its name until now


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
