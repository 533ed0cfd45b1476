"""Tensors as files describe them: checked against the file's size before memory is asked for."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gfpgan_core.bounds import (
    MAX_DESCRIPTION_BYTES,
    MAX_PICKLE_INSTRUCTIONS,
    MAX_STORED_BYTES,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MAX_DIMENSIONS = 8
_MAX_SIDE = 1 << 40
_CHUNK_BYTES = 1 << 20


class UnreadableError(ValueError):
    """A file isn't what it should be; the text completes "can't be read as weights: ..."."""


@dataclass(frozen=True)
class Limits:
    """How much a file may ask for before its tensors are read."""

    file_bytes: int = MAX_STORED_BYTES
    description_bytes: int = MAX_DESCRIPTION_BYTES
    """Of names, shapes, types and plain values."""
    instructions: int = MAX_PICKLE_INSTRUCTIONS


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies in its file.

    Raises:
        UnreadableError: impossible sizes.
    """

    dtype: torch.dtype
    start: int
    """Of the first value, in bytes from the file's start."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """In values."""

    def __post_init__(self) -> None:
        sizes = (*self.shape, *self.stride, self.start)
        if len(self.shape) != len(self.stride) or len(self.shape) > _MAX_DIMENSIONS:
            raise UnreadableError(f"a tensor has {len(self.shape)} dimensions")
        if not all(type(size) is int and 0 <= size < _MAX_SIDE for size in sizes):
            raise UnreadableError("a tensor has impossible sizes")

    @property
    def bytes(self) -> int:
        """Return what the tensor takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """Return the bytes from its first value to its last one in the file."""
        if 0 in self.shape:
            return 0
        last = sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True))
        return (last + 1) * self.dtype.itemsize


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the stride, in values, of a tensor without gaps whose last axis runs fastest."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


class WeightsFile:
    """One open file: what is hashed, described and read is the same, whatever its name becomes."""

    def __init__(self, file: BinaryIO, max_bytes: int) -> None:
        self.file = file
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableError("it is no regular file")
        if status.st_size > max_bytes:
            raise UnreadableError(f"it has {status.st_size:,} bytes; allowed are {max_bytes:,}")
        self.size = status.st_size
        self._status = status

    def read_at(self, start: int, size: int) -> bytes:
        """Return that many bytes, or those that there are."""
        if not 0 <= start < self.size:  # a seek takes no number above 2^63
            return b""
        self.file.seek(start)
        return self.file.read(max(0, min(size, self.size - start)))

    def sha256(self) -> str:
        """Return the hexadecimal digest of the whole file."""
        digest = hashlib.sha256()
        self.file.seek(0)
        while chunk := self.file.read(_CHUNK_BYTES):
            digest.update(chunk)
        return digest.hexdigest()

    def check_sizes(self, tensors: Iterable[StoredTensor]) -> None:
        """Refuse tensors that ask for more memory than the file has bytes, as expanded ones do.

        Raises:
            UnreadableError: one reaches beyond the file, or all together ask for too much.
        """
        tensors = list(tensors)
        if any(tensor.start + tensor.extent > self.size for tensor in tensors):
            raise UnreadableError("it is cut off: a tensor reaches beyond its end")
        asked = sum(max(tensor.bytes, tensor.extent) for tensor in tensors)
        if asked > self.size:
            raise UnreadableError(
                f"its tensors ask for {asked:,} bytes, and it has {self.size:,}: save them as"
                " tensors of their own (`clone()`), not as views of others"
            )

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor whose size `check_sizes` has found to be right.

        Raises:
            UnreadableError: the file has become shorter.
        """
        import torch  # who only downloads does without

        raw = torch.empty(stored.extent, dtype=torch.uint8)
        self.file.seek(stored.start)
        buffer = memoryview(raw.numpy())  # type: ignore[arg-type]
        while buffer.nbytes and (count := self.file.readinto(buffer)):  # type: ignore[attr-defined]
            buffer = buffer[count:]
        if buffer.nbytes:
            raise UnreadableError("it became shorter while it was read")
        if 0 in stored.shape:
            return torch.empty(stored.shape, dtype=stored.dtype)
        return raw.view(stored.dtype).as_strided(stored.shape, stored.stride).contiguous()

    def check_unchanged(self) -> None:
        """Compare the file's times with those at its opening.

        Raises:
            UnreadableError: it was written to meanwhile.
        """
        now, then = os.fstat(self.file.fileno()), self._status
        # The time of the last change can't be set by anyone, but losing its name is a change, too.
        same = now.st_mtime_ns == then.st_mtime_ns and (
            now.st_ctime_ns == then.st_ctime_ns or now.st_nlink != then.st_nlink
        )
        if not same or now.st_size != self.size:
            raise UnreadableError("it was changed while it was read")


@contextmanager
def opened(path: Path, max_bytes: int = MAX_STORED_BYTES) -> Iterator[WeightsFile]:
    """Open a file for reading; a pipe without a writer isn't waited for.

    Raises:
        OSError: there is none, or it can't be read.
        UnreadableError: no regular file, or too large.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=opener) as file:
        yield WeightsFile(file, max_bytes)
