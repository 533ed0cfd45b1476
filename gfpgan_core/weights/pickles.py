"""Read torch's pickles without running them: plain values, and where tensors lie.

torch's own reader, even with `weights_only`, takes the sizes in a pickle for true: of a record of
40 bytes it gives out a million values of whatever memory follows (torch 2.9), it allocates what an
old-format file asks for, and expands a view of one value to 80 GB. Here the pickle's instructions
are interpreted, 30 of them; the only calls that it knows are those that describe tensors, and
every other object becomes a `Foreign`, a name without content.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import torch

from gfpgan_core.weights.stored import StoredTensor, UnreadableError


@dataclass(frozen=True)
class Foreign:
    """A class, function or object that isn't made: its full name."""

    name: str


@dataclass(frozen=True)
class Storage:
    """Values in a row that tensors are views of."""

    dtype: torch.dtype
    start: int
    """In bytes from the file's start."""
    count: int
    """Of values."""


@dataclass(frozen=True)
class NumberType:
    """numpy's type of a number: its code, such as f8."""

    code: str


# Where a storage lies: (key, dtype, number of values) -> its start in the file, in bytes.
Locate = Callable[[str, torch.dtype, int], int]

_STORAGES = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
}


_MAX_SHORT = 16  # sizes of a tensor, bytes of a number
_MAX_NAME = 300  # characters of a module or a class

_Value = TypeVar("_Value", tuple[Any, ...], str)

# numpy's codes of numbers in struct's.
_NUMBERS = {"f8": "<d", "f4": "<f", "f2": "<e", "i8": "<q", "i4": "<i", "b1": "?"}


def read_pickle(file: BinaryIO, max_instructions: int, locate: Locate | None = None) -> Any:
    """Return the value of the pickle at the file's position, which moves to its end.

    Tensors become `StoredTensor`, dictionaries of any kind `dict`, numpy's numbers Python's,
    unknown objects `Foreign`.

    Raises:
        UnreadableError: not a pickle, or one with instructions that torch doesn't write.
    """
    machine = _Machine(locate)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > max_instructions:
                raise UnreadableError("it has too many instructions")
            machine.step(opcode.name, argument)
        return machine.stack[-1]
    except UnreadableError:
        raise
    # What broken instructions make Python raise: they may take anything for anything.
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        struct.error,
    ) as error:
        raise UnreadableError(f"it is damaged ({type(error).__name__}: {error})") from error


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "INT", "LONG", "FLOAT", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
}


class _Machine:
    """The stack, the marks on it and the memory of a pickle that is interpreted."""

    def __init__(self, locate: Locate | None) -> None:
        self.stack: list[Any] = []
        self._marks: list[int] = []
        self._memory: dict[int, Any] = {}
        self._locate = locate

    def step(self, name: str, argument: Any) -> None:
        """Do one instruction."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memory[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memory[len(self._memory)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self._memory[argument])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name == "MARK":
            self._marks.append(len(self.stack))
        elif name == "GLOBAL":
            self.stack.append(Foreign(argument.replace(" ", ".", 1)))
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._combine(name)

    def _combine(self, name: str) -> None:
        """Do an instruction that takes values off the stack."""
        if name == "TUPLE":
            self.stack.append(tuple(self._since_mark()))
        elif name in _TUPLES:
            self.stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop(2) if name == "SETITEM" else self._since_mark()
            self._set_items(items)
        elif name in ("APPEND", "APPENDS", "ADDITEMS"):
            items = self._pop(1) if name == "APPEND" else self._since_mark()
            if isinstance(self.stack[-1], list):
                self.stack[-1].extend(items)
        elif name == "STACK_GLOBAL":
            names = self._pop(2)
            if not all(isinstance(name, str) and len(name) <= _MAX_NAME for name in names):
                raise UnreadableError("it has a class without a name")
            self.stack.append(Foreign(".".join(names)))
        elif name == "BINPERSID":
            self.stack.append(self._storage(*self._pop(1)))
        elif name in ("REDUCE", "NEWOBJ"):
            function, arguments = self._pop(2)
            self.stack.append(_called(function, arguments))
        elif name == "BUILD":
            # Attributes: an ordered dictionary's `_metadata`, a foreign object's.
            (attributes,) = self._pop(1)
            if isinstance(self.stack[-1], NumberType) and attributes[1] not in ("<", "|"):
                raise UnreadableError("it comes from a big-endian machine")
        else:
            raise UnreadableError(f"it has the instruction {name}, which torch doesn't write")

    def _pop(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise UnreadableError("it is damaged: a value is missing")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def _since_mark(self) -> list[Any]:
        start = self._marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            # A tuple of tuples of tuples takes for ever to hash; no weights are named by one.
            if isinstance(target, dict) and isinstance(key, str | int):
                target[key] = value

    def _storage(self, reference: Any) -> Storage:
        if len(reference) not in (5, 6):
            raise UnreadableError("it has references that torch doesn't write")
        kind, storage_type, key, _, count, *view = reference
        if kind != "storage" or self._locate is None or any(view):
            raise UnreadableError("it has references that torch doesn't write")
        dtype = _STORAGES.get(storage_type.name)
        if dtype is None:
            raise UnreadableError(f"it has values of type {storage_type.name[:80]}")
        if type(key) is not str or type(count) is not int or not 0 <= count < 1 << 40:
            raise UnreadableError("it has impossible references")
        return Storage(dtype, self._locate(key, dtype, count), count)


def _called(function: Any, arguments: Any) -> Any:
    """Return what a call in the pickle stands for; nothing is called."""
    name = function.name if isinstance(function, Foreign) else str(type(function).__name__)
    if name == "collections.OrderedDict" and not arguments:
        return {}
    if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        return _stored(*arguments[:4])
    if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
        return arguments[0]
    if name == "torch.Size":
        return _short(tuple, arguments[0])
    if name == "numpy.dtype":
        return NumberType(_short(str, arguments[0]))
    if name == "_codecs.encode" and arguments[1] == "latin1":  # bytes, in old pickles
        return _short(str, arguments[0]).encode("latin1")
    if name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"):
        return _number(*arguments)
    return Foreign(name)


def _short(kind: type[_Value], value: Any) -> _Value:
    """Return the value, which is of that type and short.

    A pickle refers to a value of many bytes again and again with two: what makes a new value of
    another one, or spells it out, takes short ones only.

    Raises:
        UnreadableError: it isn't.
    """
    if not isinstance(value, kind) or len(value) > _MAX_SHORT:
        raise UnreadableError(f"it is damaged: a short {kind.__name__} is missing")
    return value


def _number(kind: NumberType, data: bytes) -> Any:
    """Return a number of numpy's as one of Python's.

    Raises:
        UnreadableError: it is no number.
    """
    form = _NUMBERS.get(kind.code)
    if form is None:
        raise UnreadableError(f"it has values of numpy's type {kind.code}")
    return struct.unpack(form, data)[0]


def _stored(storage: Storage, offset: int, shape: Any, stride: Any) -> StoredTensor:
    """Return a view of a storage.

    Raises:
        UnreadableError: it reaches beyond the storage.
    """
    size = storage.dtype.itemsize
    tensor = StoredTensor(storage.dtype, storage.start + offset * size, tuple(shape), tuple(stride))
    if offset < 0 or (offset * size + tensor.extent > storage.count * size and math.prod(shape)):
        raise UnreadableError("it is damaged: a tensor reaches beyond its values")
    return tensor
