"""Files that `torch.save` wrote, in the zip form and in the one before torch 1.6."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import torch

from gfpgan_core.weights.pickles import read_pickle
from gfpgan_core.weights.stored import Limits, UnreadableError, WeightsFile

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip's member: signature, lengths of name and extra
_OLD_MAGIC = 0x1950A86A20F9469CFC6C
_COMPRESSED = "its members are compressed, which torch doesn't do"
OLD_START = b"\x80\x02\x8a\x0a" + _OLD_MAGIC.to_bytes(10, "little")
"""How a file in the form before torch 1.6 begins."""


# zipfile lets errors of struct and of the text's encoding through.
_ZIP_ERRORS = (zipfile.BadZipFile, struct.error, ValueError, RuntimeError, EOFError, OSError)


def compare_checksums(file: WeightsFile) -> None:
    """Read a zip's members once, against the checksums that torch writes and doesn't read.

    Raises:
        UnreadableError: one isn't what was written, or the archive asks for more time than its size
            explains: its members are compressed, or overlap.
    """
    try:
        with zipfile.ZipFile(file.file) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise UnreadableError(_COMPRESSED)
            if sum(member.file_size for member in members) > file.size:
                raise UnreadableError("it is damaged: its members overlap")
            damaged = archive.testzip()
    except UnreadableError:
        raise
    except _ZIP_ERRORS as error:
        raise UnreadableError(f"it is cut off or damaged ({error})") from error
    if damaged is not None:
        raise UnreadableError(f"{damaged[:80]!r} in it is damaged")


def read_zip(file: WeightsFile, limits: Limits) -> Any:
    """Return what was saved, with `StoredTensor` in place of tensors.

    Raises:
        UnreadableError: not torch's, damaged, or compressed.
    """
    try:
        with zipfile.ZipFile(file.file) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except _ZIP_ERRORS as error:
        raise UnreadableError(f"it is cut off or damaged ({error})") from error
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if not roots:
        raise UnreadableError("it is a zip archive without weights: unpack it first")
    root = min(roots, key=len)
    if f"{root}constants.pkl" in members:
        raise UnreadableError(
            "it is a TorchScript program: save the network's `state_dict()` instead"
        )

    def span(name: str) -> tuple[int, int]:
        """Return where a member's bytes are in the file: start and size."""
        member = members.get(root + name)
        if member is None:
            raise UnreadableError(f"it is damaged: {name[:80]} is missing")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise UnreadableError(_COMPRESSED)
        header = file.read_at(member.header_offset, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size:
            raise UnreadableError("it is cut off")
        signature, name_bytes, extra_bytes = _LOCAL_HEADER.unpack(header)
        start = member.header_offset + _LOCAL_HEADER.size + name_bytes + extra_bytes
        if signature != b"PK\3\4" or start + member.file_size > file.size:
            raise UnreadableError("it is cut off or damaged")
        return start, member.file_size

    if f"{root}byteorder" in members and file.read_at(*span("byteorder")) != b"little":
        raise UnreadableError("it comes from a big-endian machine")

    def locate(key: str, dtype: torch.dtype, count: int) -> int:
        start, size = span(f"data/{key}")
        if count * dtype.itemsize > size:
            raise UnreadableError(f"it is damaged: data/{key[:80]} is shorter than it says")
        return start

    start, size = span("data.pkl")
    if size > limits.description_bytes:
        raise UnreadableError(f"its names and shapes take {size:,} bytes")
    return read_pickle(io.BytesIO(file.read_at(start, size)), limits.instructions, locate)


def read_old(file: WeightsFile, limits: Limits) -> Any:
    """Return what was saved, with `StoredTensor` in place of tensors.

    Five pickles: a magic number, the protocol, the machine, what was saved, the storages' keys;
    then each storage: the number of its values in 8 bytes, and the values.

    Raises:
        UnreadableError: damaged.
    """
    head = io.BytesIO(file.read_at(0, limits.description_bytes))
    for _ in range(3):
        read_pickle(head, limits.instructions)
    start = head.tell()
    # Read twice: where the storages lie is known only behind what refers to them.
    asked: dict[str, tuple[int, int]] = {}

    def note(key: str, dtype: torch.dtype, count: int) -> int:
        if asked.setdefault(key, (dtype.itemsize, count)) != (dtype.itemsize, count):
            raise UnreadableError("it is damaged: a storage has two sizes")
        return 0

    read_pickle(head, limits.instructions, note)
    keys = read_pickle(head, limits.instructions)
    places = _places(file, head.tell(), keys, asked)
    head.seek(start)
    return read_pickle(head, limits.instructions, lambda key, *_: places[key])


def _places(
    file: WeightsFile, position: int, keys: Any, asked: dict[str, tuple[int, int]]
) -> dict[str, int]:
    """Return where each storage's values start, in bytes from the file's start."""
    # Texts alone: other values may take for ever to be spelled out.
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise UnreadableError("it is damaged: its storages have no names")
    if sorted(keys) != sorted(asked):
        raise UnreadableError("it is damaged: its storages aren't those that it refers to")
    places = {}
    for key in keys:
        value_bytes, count = asked[key]
        stored = file.read_at(position, 8)
        if len(stored) < 8 or int.from_bytes(stored, "little") != count:
            raise UnreadableError("it is cut off or damaged")
        places[key] = position + 8
        position += 8 + count * value_bytes
    return places
