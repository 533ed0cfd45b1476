"""Pickles that would run code, take all memory or never end, in both of torch's forms."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from hostile.weight_files import Case, saved, zip_file

_NESTED = b")" + b"q\0h\0h\0\x86" * 1 + b"".join(
    b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(1, 200)
)  # fmt: skip
_RAW = {
    "eval": b"cbuiltins\neval\nX\1\0\0\0a\x85R",
    "bytearray": b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R",
    "memo-2^32": b"}r\xff\xff\xff\xff",
    "memo-2^32-text": b"}p4294967295\n",
    "memo-missing": b"h\7",
    "text-2^62": b"\x8d" + struct.pack("<Q", 2**62),
    "bytes-2^62": b"\x8e" + struct.pack("<Q", 2**62),
    "bytearray-2^40": b"\x96" + struct.pack("<Q", 2**40),
    "frame-2^62": b"\x95" + struct.pack("<Q", 2**62) + b"}",
    "hash-for-ever": b"}" + _NESTED + b"K\1s",
    "itself": b"]q\0h\0a",
    "itself-in-dict": b"}q\0X\6\0\0\0paramsh\0s",
    "800000-dicts": b"(" + b"}" * 800_000 + b"t",
    "990000-tuples": b"(" + b")" * 990_000 + b"t",
    "900000-marks": b"(" * 900_000,
    "number-of-100000-digits": b"I" + b"9" * 100_000 + b"\n",
    "number-of-500000-bytes": b"\x8b" + struct.pack("<i", 500_000) + b"\x7f" * 500_000,
    "number-negative-length": b"\x8b" + struct.pack("<i", -1),
    "empty": b"",
    "underflow": b"\x85",
    "underflow-append": b"a",
    "mark-missing": b"t",
    "odd-items": b"}(K\1u",
    "append-to-number": b"K\1K\2a",
    "item-of-number": b"K\1K\2K\3s",
    "build-number": b"K\1K\2b",
    "call-number": b"K\1)R",
    "global-of-numbers": b"K\1K\2\x93",
    "instance": b"(ios\nsystem\n",
    "object": b"(cos\nsystem\no",
    "extension": b"\x82\1",
    "reference-text": b"P0\n",
    "reference-number": b"K\1Q",
    "reference-short": b"X\7\0\0\0storage\x85Q",
    "unknown-instruction": b"\xff",
    "tensor-of-nothing": b"ctorch._utils\n_rebuild_tensor_v2\n)R",
    "tensor-of-numbers": b"ctorch._utils\n_rebuild_tensor_v2\n(K\1K\1K\1K\1tR",
    "size-of-number": b"ctorch\nSize\nK\1\x85R",
    "parameter-of-nothing": b"ctorch._utils\n_rebuild_parameter\n)R",
    "codecs": b"c_codecs\nencode\nX\1\0\0\0aX\6\0\0\0latin1\x86R",
}
_TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\n"
    b"X\1\0\0\x000X\3\0\0\0cpuK\x64tQ%b\x89ctorch\n_x\n)RtR"
)
_VIEWS = {
    "offset-negative": b"J\xff\xff\xff\xffK\1\x85K\1\x85",
    "offset-beyond": b"J\xff\xff\xff\x7fK\1\x85K\1\x85",
    "offset-text": b"X\1\0\0\x000K\1\x85K\1\x85",
    "side-negative": b"K\0J\xff\xff\xff\xff\x85K\1\x85",
    "side-true": b"K\0\x88\x85K\1\x85",
    "stride-negative": b"K\0K\2\x85J\xff\xff\xff\xff\x85",
    "stride-beyond": b"K\0K\2\x85J\xff\xff\xff\x7f\x85",
    "stride-missing": b"K\0K\2\x85)",
    "sides-not-a-tuple": b"K\0K\2K\1",
}


_RECORDS = {"data/0": bytes(400), "version": b"3"}
# What precedes the pickle in the older form.
_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)


class _Harm:
    """An object whose pickle calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def pickles(state: dict[str, Tensor]) -> Iterator[Case]:
    """Pickles that would run code, take all memory or never end, in both of torch's forms."""
    start, end = b"\x80\x02", b"."
    for name, body in _RAW.items():
        yield Case(f"pickle-{name}", zip_file(start + body + end, _RECORDS))
        if len(body) < 1000:
            yield Case(f"pickle-{name}-old", _MAGIC + start + body + end)
    yield Case("pickle-without-end", zip_file(start + b"}", _RECORDS))
    yield Case("runs-print", saved(state | {"a": _Harm(print, "code of a stranger")}))
    yield Case("runs-print-beside", saved({"params": state, "a": _Harm(print, "x")}), "network")
    for name, view in _VIEWS.items():
        body = b"}X\1\0\0\0a" + _TENSOR % view + b"s"
        yield Case(f"view-{name}", zip_file(start + body + end, _RECORDS))


def multiplied() -> Iterator[Case]:
    """Pickles of few bytes that use one large value again and again, so that it is copied."""
    longs = b"(" + b"N" * 300_000 + b"t"  # a tuple of 300,000 values, named 0
    doubled = b"(K\1K\1tq\0" + b"".join(
        b"(h%ch%ctq%c" % (i, i, i + 1) for i in range(40)
    )  # 2^41 values, if they are ever spelled out
    name = b"X" + struct.pack("<I", 400_000) + b"a" * 400_000
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpuK\x64"
    bodies = {
        "sizes": b"](" + b"N" * 300_000 + b"eq\0ctorch\nSize\nq\1" + b"h\1h\0\x85R" * 50_000,
        "global-of-long-names": name + b"q\0" + b"h\0h\0\x93" * 80_000,
        "global-of-nested-tuples": doubled + b"h\x28h\x28\x93",
        "encoded": name + b"q\0X\6\0\0\0latin1q\1c_codecs\nencode\nq\2"
        b"" + b"h\2h\0h\1\x86R" * 50_000,
        "reference": storage + b"N" * 300_000 + b"tq\0" + b"h\0Q" * 80_000,
        "shape": longs + b"q\0ctorch._utils\n_rebuild_tensor_v2\nq\1" + storage + b"tQq\2"
        b"" + b"h\1(h\2K\0h\0h\0tR" * 40_000,
        "numpy-type-of-nested-tuples": doubled + b"cnumpy\ndtype\nh\x28\x85R",
        "numpy-number-of-nested-tuples": doubled + b"cnumpy.core.multiarray\nscalar\n"
        b"cnumpy\ndtype\nh\x28\x85RC\1a\x86R",
    }  # fmt: skip
    for name_, body in bodies.items():
        yield Case(f"again-{name_}", zip_file(b"\x80\x02}X\1\0\0\0a" + body + b"s.", _RECORDS))
    keys = b"\x80\x02" + doubled + b"h\x28\x85" + b"]q\x60h\x28a" + b"."
    yield Case("again-keys-of-nested-tuples-old", _MAGIC + pickle.dumps({}, 2) + keys)
