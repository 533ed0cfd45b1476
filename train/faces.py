"""A collection of photos to train on: a folder, a zip, a tar or an LMDB."""

from __future__ import annotations

import os
import tarfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from gfpgan_core import images
from gfpgan_core.errors import InputError

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

Kind = Literal["folder", "zip", "tar", "lmdb"]


@dataclass(frozen=True)
class Faces:
    """Names of images, sorted, and where their bytes are. Safe to hand to other processes."""

    path: Path
    kind: Kind
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """The image file's bytes.

        Raises:
            InputError: it can't be read any more.
        """
        try:
            if self.kind == "folder":
                return (self.path / name).read_bytes()
            # One handle for each process: file positions must not be shared between workers.
            archive = _opened(self.path, self.kind, os.getpid())
            if self.kind == "zip":
                return bytes(archive.read(name))
            if self.kind == "tar":
                return bytes(archive.extractfile(name).read())
            with archive.begin() as transaction:
                data = transaction.get(name.encode())
                if data is None:
                    raise KeyError(name)
                return bytes(data)
        except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
            raise InputError(f"{name} can't be read from {self.path}: {error}") from error

    def __len__(self) -> int:
        return len(self.names)


def open_faces(path: Path) -> Faces:
    """The images in a folder (and below it), zip, tar or LMDB.

    An LMDB has the image's name as key and the encoded image as value, as basicsr writes it.

    Raises:
        InputError: there is nothing, or no image in it.
    """
    kind = _kind_of(path)
    if kind == "folder":
        found = [str(p.relative_to(path)) for p in path.rglob("*")]
    elif kind == "lmdb":
        # Closed again at once: an LMDB that is open here couldn't be opened in a forked worker.
        with _open(path, kind) as base, base.begin() as transaction:
            keys = [bytes(key).decode() for key in transaction.cursor().iternext(values=False)]
        return Faces(path, kind, tuple(sorted(keys)))
    else:
        archive = _opened(path, kind, os.getpid())
        found = archive.namelist() if kind == "zip" else archive.getnames()
    names = tuple(sorted(n for n in found if Path(n).suffix.lower() in images.SUFFIXES))
    if not names:
        raise InputError(f"{path} holds no image ({', '.join(images.SUFFIXES)})")
    return Faces(path, kind, names)


def _kind_of(path: Path) -> Kind:
    if (path / "data.mdb").is_file():
        return "lmdb"
    if path.is_dir():
        return "folder"
    if path.is_file() and path.suffix.lower() == ".zip":
        return "zip"
    if path.is_file() and path.name.lower().endswith(_TAR_SUFFIXES):
        return "tar"
    raise InputError(
        f"{path} is no folder, .zip, {', '.join(_TAR_SUFFIXES)} or LMDB: give one that holds"
        " aligned face images (python -m scripts.prepare_faces makes them)"
    )


@lru_cache(maxsize=8)
def _opened(path: Path, kind: Kind, pid: int) -> Any:
    """An archive that stays open; `pid` keeps processes from sharing one."""
    del pid
    return _open(path, kind)


def _open(path: Path, kind: Kind) -> Any:
    try:
        if kind == "zip":
            return zipfile.ZipFile(path)
        if kind == "tar":
            return tarfile.open(path)
        import lmdb

        return lmdb.open(str(path), readonly=True, lock=False, readahead=False)
    except ImportError as error:
        raise InputError("reading an LMDB needs `pip install lmdb`") from error
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise InputError(f"{path} can't be opened: {error}") from error
