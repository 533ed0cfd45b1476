"""Make untrusted color profiles safe to compute with."""

from __future__ import annotations

import struct

_TAG_COUNT_AT, _TAGS_AT = 128, 132
_TAG = struct.Struct(">4sII")  # name, place and size of its data
_ELEMENTS = b"mpet"


def without_elements(profile: bytes) -> bytes:
    """Return the profile with its chains of processing elements (ICC.1:2010, 10.14) hidden.

    A chain may have any number of elements, each of 8 bytes: LittleCMS takes 26 s for one of 1 MB.
    Every profile that has some also says the same without them, for programs that don't know them;
    few programs do, and no camera writes them.
    """
    count = int.from_bytes(profile[_TAG_COUNT_AT:_TAGS_AT], "big")
    result = bytearray(profile)
    for at in range(_TAGS_AT, min(_TAGS_AT + count * _TAG.size, len(profile) - _TAG.size + 1), 12):
        _, start, _ = _TAG.unpack_from(profile, at)
        if profile[start : start + 4] == _ELEMENTS:
            result[at : at + 4] = bytes(4)  # a name that nobody looks for
    return bytes(result)
