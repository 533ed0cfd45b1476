"""Find, download and verify released weight files."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from gfpgan_core.errors import WeightsError
from gfpgan_core.files import remove_partial_files_of, whole_file
from gfpgan_core.weights.foreign import kind_of
from gfpgan_core.weights.releases import WeightFile
from gfpgan_core.weights.stored import UnreadableError, opened

_ATTEMPTS = 3
_PAUSE_S = 0.5  # between attempts
_TIMEOUT_S = 30  # without a byte, not for the whole file


def cache_folder() -> Path:
    """Return the folder that downloads go to: `GFPGAN_WEIGHTS_DIR`, or the user's cache."""
    chosen = os.environ.get("GFPGAN_WEIGHTS_DIR")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("gfpgan"))


def is_offline() -> bool:
    """Return whether `GFPGAN_OFFLINE` forbids downloads, of any weights."""
    return os.environ.get("GFPGAN_OFFLINE", "0") not in ("", "0")


def is_present(file: WeightFile) -> bool:
    """Return whether the file lies in the cache folder; its contents are checked on loading."""
    return (cache_folder() / file.name).is_file()


def fetch(file: WeightFile, *, progress: bool = True) -> Path:
    """Return the local file, verified by its sha256; download it first if it isn't there.

    `GFPGAN_OFFLINE=1` forbids the download. Several processes may ask at once: one downloads.

    Raises:
        WeightsError: no network, offline, wrong size or sha256. Nothing half-written stays.
    """
    path = ensure_present(file, progress=progress)
    try:
        with opened(path) as opened_file:
            found = opened_file.sha256()
    except (OSError, UnreadableError) as error:
        raise WeightsError(f"{path} can't be read: {error}") from error
    if found != file.sha256:
        raise WeightsError(
            f"{path} has sha256 {found}; {file.name} has {file.sha256}: the file is damaged or"
            " another one. Delete it, and it will be fetched anew"
        )
    return path


def ensure_present(file: WeightFile, *, progress: bool = True, folder: Path | None = None) -> Path:
    """Return the local file, downloaded first if it isn't there.

    Only the size of a file that is there is compared: `read_state` compares the sha256 of what it
    reads.

    Args:
        file: the one wanted.
        progress: draw a bar.
        folder: where it is or goes to; the cache folder by default.

    Raises:
        WeightsError: as `fetch`.
    """
    folder = folder or cache_folder()
    path = folder / file.name
    try:
        if not path.is_file():
            if is_offline():
                text = _how_to_get(file, folder)
                raise WeightsError(f"{text}\nGFPGAN_OFFLINE forbids the download.")
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{file.name}.lock"):
                if not path.is_file():  # else another process has just fetched it
                    remove_partial_files_of(path)
                    _download(file, path, progress)
        _check_size(path, file)
    except OSError as error:
        raise WeightsError(
            f"{_how_to_get(file, folder)}\nThe folder can't be used: {error}"
        ) from error
    return path


def _download(file: WeightFile, path: Path, progress: bool) -> None:
    """Download to a temporary file, compare the sha256, rename; try again when it breaks.

    Raises:
        OSError: the file can't be written: trying again wouldn't help.
        WeightsError: no attempt succeeded.
    """
    downloader = pooch.HTTPDownloader(progressbar=progress, timeout=_TIMEOUT_S)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with whole_file(path) as temporary:
                downloader(file.url, str(temporary), None)
                _check_download(temporary, file)
            return
        except (requests.RequestException, UnreadableError) as error:
            if attempt == _ATTEMPTS:
                raise WeightsError(
                    f"{_how_to_get(file, path.parent)}\n{_ATTEMPTS} attempts failed, the last one"
                    f" with: {error}"
                ) from error
            time.sleep(_PAUSE_S)


def _check_download(temporary: Path, file: WeightFile) -> None:
    with opened(temporary) as downloaded:
        found = downloaded.sha256()
        if found != file.sha256:
            raise UnreadableError(
                f"what came has sha256 {found}, and should have {file.sha256}:"
                f" {kind_of(downloaded.read_at(0, 512), downloaded.size)}"
            )


def _check_size(path: Path, file: WeightFile) -> None:
    size = path.stat().st_size
    if file.bytes is None or size == file.bytes:
        return
    with path.open("rb") as content:
        what = kind_of(content.read(512), size)
    raise WeightsError(
        f"{path} has {size:,} bytes; {file.name} has {file.bytes:,}: the file is damaged or"
        f" another one ({what}). Delete it, and it will be fetched anew from {file.url}"
    )


def _how_to_get(file: WeightFile, folder: Path) -> str:
    size = f" ({file.bytes / 1e6:.0f} MB)" if file.bytes is not None else ""
    return (
        f"{file.name}{size} is not there. It comes from {file.url}; to put it"
        f" in place by hand, save it as {folder / file.name}."
        " The version `compact` needs no download (--version compact)."
    )
