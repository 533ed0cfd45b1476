"""Read what `torch.save` wrote, plain values and tensors, without running a pickle's code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.foreign import kind_of
from gfpgan_core.weights.stored import Limits, StoredTensor, UnreadableError, WeightsFile, opened
from gfpgan_core.weights.torch_files import OLD_START, compare_checksums, read_old, read_zip

_PLAIN = (str, bytes, int, float, type(None))  # a truth value is an int


def read_saved(path: Path, limits: Limits, *, checksums: bool = False) -> Any:
    """Return dictionaries, lists and tuples of plain values and CPU tensors, as they were saved.

    Sizes are compared with the file's first: the tensors take no more memory than it has bytes. A
    tensor that is there several times becomes one. Sets become lists.

    Args:
        path: the file.
        limits: how much it may ask for.
        checksums: refuse a file in the zip form whose parts aren't what was written.

    Raises:
        WeightsError: unreadable, damaged, or it holds other objects.
    """
    try:
        with opened(path, limits.file_bytes) as file:
            loaded = _described(file, limits, checksums)
            tensors = dict.fromkeys(_tensors(loaded))
            file.check_sizes(tensors)
            made = {stored: file.tensor(stored) for stored in tensors}
            file.check_unchanged()
            return _Copy(made).of(loaded)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from error
    except (UnreadableError, MemoryError) as error:
        text = str(error) or "it needs more memory than there is"
        raise WeightsError(f"{path} can't be read: {text}") from error
    except RecursionError as error:
        raise WeightsError(f"{path} can't be read: its values are nested too deeply") from error


def _described(file: WeightsFile, limits: Limits, checksums: bool) -> Any:
    head = file.read_at(0, 512)
    if head.startswith(b"PK\3\4"):
        if checksums:
            compare_checksums(file)
        return read_zip(file, limits)
    if head.startswith(OLD_START):
        return read_old(file, limits)
    raise UnreadableError(kind_of(head, file.size))


def _tensors(loaded: Any) -> Iterator[StoredTensor]:
    """Yield the tensors in a value. Each part is visited once, however often it is used.

    Raises:
        UnreadableError: something else than plain values is in it.
    """
    seen: set[int] = set()
    waiting = [loaded]
    while waiting:
        value = waiting.pop()
        if isinstance(value, StoredTensor):
            yield value
        elif isinstance(value, dict | list | tuple):
            if id(value) not in seen:
                seen.add(id(value))
                waiting.extend(value.values() if isinstance(value, dict) else value)
        elif not isinstance(value, _PLAIN):
            raise UnreadableError(f"it holds more than plain values and tensors: {str(value)[:80]}")


class _Copy:
    """A value's copy with tensors in it; parts that are used several times are copied once."""

    def __init__(self, tensors: dict[StoredTensor, Tensor]) -> None:
        self._tensors = tensors
        self._copies: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """Return the copy.

        Raises:
            RecursionError: the value is nested too deeply, or a part of itself.
        """
        if isinstance(value, StoredTensor):
            return self._tensors[value]
        if not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in self._copies:
            self._copies[id(value)] = (
                {key: self.of(item) for key, item in value.items()}
                if isinstance(value, dict)
                else type(value)(self.of(item) for item in value)
            )
        return self._copies[id(value)]
