"""Some two hundred weight files: damaged, foreign, of wrong sizes and types, and made to harm."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any

import torch
from conftest import random_network
from safetensors.torch import save as save_safetensors
from torch import Tensor

from gfpgan_core.config import GeneratorConfig
from hostile.weight_files import Case, saved, zip_file
from hostile.weight_pickles import multiplied, pickles

SMALL = GeneratorConfig(16, 1, 0.0625, 16, 1)


def cases() -> Iterator[Case]:
    """All of them; the same ones each time."""
    state = {k: v.clone() for k, v in random_network(1, SMALL).state_dict().items()}
    yield from _foreign(state)
    yield from _damaged(state)
    yield from _types(state)
    yield from _structures(state)
    yield from _sizes(state)
    yield from _headers(state)
    yield from _configurations(state)
    yield from pickles(state)
    yield from multiplied()


def with_config(state: dict[str, Tensor], config: object) -> bytes:
    """A safetensors file that describes its network."""
    text = config if isinstance(config, str) else json.dumps(config)
    return save_safetensors(state, {"generator_config": text})


def _with_offsets(data: bytes, offset: int) -> bytes:
    """Return a zip archive whose directory says, in zip64's way, that its members begin there."""
    first = data.index(b"PK\1\2")
    directory, rest = bytearray(), data[first:]
    count = 0
    while rest.startswith(b"PK\1\2"):
        name_bytes, extra_bytes, note_bytes = struct.unpack_from("<HHH", rest, 28)
        entry = bytearray(rest[: 46 + name_bytes])
        struct.pack_into("<HH", entry, 30, 12, 0)
        struct.pack_into("<I", entry, 42, 0xFFFFFFFF)
        directory += entry + struct.pack("<HHQ", 1, 8, offset)
        rest, count = rest[46 + name_bytes + extra_bytes + note_bytes :], count + 1
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), first, 0)
    return data[:first] + bytes(directory) + end


def _zip_parts(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _foreign(state: dict[str, Tensor]) -> Iterator[Case]:
    """Files that aren't weights, as downloads and mistakes leave them."""
    text = {
        "empty": b"",
        "one-byte": b"\x80",
        "zeros": bytes(5000),
        "web-page": b"<!DOCTYPE html>\n<html><body>Sign in</body></html>" * 20,
        "web-page-lower": b"\n  <html><head></head></html>",
        "xml": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"0" * 64
        + b"\nsize 348632874\n",
        "json": b'{"error": "not found"}',
        "json-like-safetensors": b"        {" + b"[" * 5000,
        "text": b"weights go here\n" * 30,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
        "pdf": b"%PDF-1.4\n" + bytes(100),
        "gzip": b"\x1f\x8b\x08" + bytes(100),
        "bzip2": b"BZh9" + bytes(100),
        "xz": b"\xfd7zXZ\0" + bytes(100),
        "7z": b"7z\xbc\xaf\x27\x1c" + bytes(100),
        "rar": b"Rar!\x1a\x07" + bytes(100),
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "gguf": b"GGUF\3\0\0\0" + bytes(100),
        "numpy": b"\x93NUMPY\x01\0" + bytes(100),
        "zip-start-only": b"PK\3\4",
        "zip-end-only": b"PK\5\6" + bytes(18),
    }
    for name, data in text.items():
        yield Case(f"foreign-{name}", data)
    for seed in range(8):
        yield Case(f"foreign-noise-{seed}", random.Random(seed).randbytes(4000))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        member = tarfile.TarInfo("storages")
        member.size = 100
        archive.addfile(member, io.BytesIO(bytes(100)))
    yield Case("foreign-tar", tar.getvalue())
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("GFPGANv1.4.pth", saved(state))
    yield Case("foreign-zip-of-weights", zipped.getvalue())
    parts = _zip_parts(saved(state))
    pickled = next(data for name, data in parts.items() if name.endswith("/data.pkl"))
    records = {n.split("/", 1)[1]: d for n, d in parts.items() if not n.endswith("/data.pkl")}
    yield Case("zip-as-it-should-be", zip_file(pickled, records), "network")
    yield Case("zip-compressed", zip_file(pickled, records, zipfile.ZIP_DEFLATED))
    bomb = {"data/0": bytes(900_000_000 // 4)}
    yield Case("zip-bomb", zip_file(pickled, bomb, zipfile.ZIP_DEFLATED))
    yield Case("zip-torchscript", zip_file(pickled, records | {"constants.pkl": b"x"}))
    yield Case("zip-without-records", zip_file(pickled, {}))
    yield Case("zip-big-endian", zip_file(pickled, records | {"byteorder": b"big"}))
    short = {name: data[:-1] if name == "data/0" else data for name, data in records.items()}
    yield Case("zip-short-record", zip_file(pickled, short))
    yield Case("zip-members-beyond-any-file", _with_offsets(saved(state), 2**63))
    yield Case("zip-10000-members", zip_file(b"", {f"x{i}": b"" for i in range(10_000)}))
    yield Case("plain-pickle", pickle.dumps({"params": {"a": 1}}))


def _damaged(state: dict[str, Tensor]) -> Iterator[Case]:
    """Whole files of each form, cut off, and with single bytes changed."""
    forms = {
        "zip": saved(state),
        "old": saved(state, old=True),
        "safetensors": with_config(state, dataclasses.asdict(SMALL)),
    }
    for form, data in forms.items():
        yield Case(f"whole-{form}", data, "network")
        draw = random.Random(form)
        for i, end in enumerate(sorted(draw.sample(range(1, len(data) - 1), 10))):
            yield Case(f"cut-{form}-{i}", data[:end])
        yield Case(f"cut-{form}-by-one", data[:-1])
        for i in range(12):
            changed = bytearray(data)
            # In the first part are names and sizes, and in a zip's last one.
            limit = 3000 if i % 2 else len(data)
            for _ in range(3):
                changed[draw.randrange(limit)] ^= 1 << draw.randrange(8)
            yield Case(f"flipped-{form}-{i}", bytes(changed), "either")
        tail = bytearray(data)
        tail[-200:] = draw.randbytes(200)
        yield Case(f"noise-at-the-end-{form}", bytes(tail), "either")


def _types(state: dict[str, Tensor]) -> Iterator[Case]:
    """Values of every type in one tensor, and in all."""
    name = "final_conv.weight"
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        good = {k: v.to(dtype) for k, v in state.items()}
        yield Case(f"type-{dtype}", saved(good), "network")
        yield Case(f"type-{dtype}-safetensors", save_safetensors(good), "network")
    bad = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool)
    for dtype in (*bad, torch.complex64):
        changed = state | {name: state[name].to(dtype)}
        yield Case(f"type-{dtype}", saved(changed))
        yield Case(f"type-{dtype}-old", saved(changed, old=True))
        yield Case(f"type-{dtype}-safetensors", save_safetensors(changed))
    yield Case("type-complex128", saved(state | {name: state[name].to(torch.complex128)}))
    yield Case("type-float8", saved(state | {name: state[name].to(torch.float8_e4m3fn)}))
    yield Case("type-sparse", saved(state | {name: state[name].to_sparse()}))
    quantized = torch.quantize_per_tensor(state[name], 0.1, 0, torch.qint8)
    yield Case("type-quantized", saved(state | {name: quantized}))
    yield Case("type-meta", saved(state | {name: state[name].to("meta")}))
    for value in (torch.nan, torch.inf, -torch.inf):
        yield Case(f"value-{value}", saved(state | {name: torch.full_like(state[name], value)}))
    large = {k: v.double() * 1e300 for k, v in state.items()}
    yield Case("value-beyond-float32", saved(large))


def _structures(state: dict[str, Tensor]) -> Iterator[Case]:
    """State dicts wrapped, of other things, with names missing, left over, doubled."""
    for key in ("params_ema", "params", "state_dict"):
        yield Case(f"wrapped-{key}", saved({key: state, "step": 3, "best": 0.5}), "network")
    prefixed = {f"module.{k}": v for k, v in state.items()}
    yield Case("prefixed", saved(prefixed), "network")
    yield Case("parameters", saved({k: torch.nn.Parameter(v) for k, v in state.items()}), "network")
    last = {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v
            for k, v in state.items()}  # fmt: skip
    yield Case("channels-last", saved(last), "network")
    yield Case("prefixed-and-bare", saved(prefixed | state))
    first = next(iter(state))
    others: dict[str, Any] = {
        "list": list(state.values()),
        "one-tensor": state[first],
        "number": 3,
        "none": None,
        "empty": {},
        "params-empty": {"params": {}},
        "params-none": {"params": None},
        "params-of-params": {"params": {"params": state}},
        "optimizer-only": {"optimizer": {"state": {0: {"step": 1}}, "param_groups": []}},
        "numbered": dict(enumerate(state.values())),
        "long-name": state | {"a" * 100_000: state[first]},
        "many-names": dict.fromkeys((f"n{i}" for i in range(25_000)), 0),
        "one-missing": {k: v for k, v in state.items() if k != first},
        "one-left-over": state | {"more": state[first]},
        "one-renamed": {("renamed" if k == first else k): v for k, v in state.items()},
        "one-transposed": state | {"final_linear.weight": state["final_linear.weight"].T.clone()},
        "one-scalar": state | {first: torch.tensor(1.0)},
        "one-empty": state | {first: torch.empty(0)},
        "all-scalars": {k: torch.tensor(1.0) for k in state},
        "all-empty": {k: torch.empty(0) for k in state},
        "no-channels": {k: v[:, :0].clone() if v.ndim > 1 else v for k, v in state.items()},
        "1000-levels": state
        | {f"conv_body_down.{i}.skip.weight": state[first] for i in range(1000)},
        "1000-mlp-layers": state
        | {f"stylegan_decoder.style_mlp.{i}.weight": torch.zeros(2, 2) for i in range(1000)},
    }
    for name, value in others.items():
        yield Case(f"structure-{name}", saved(value))
    equalized = {"conv_body_first.0.weight": torch.ones(4, 3, 1, 1)}
    odd: dict[str, dict[str, Tensor]] = {
        "scalar": {"final_linear.weight": torch.tensor(1.0)},
        "vector": {"stylegan_decoder.style_mlp.1.weight": torch.ones(4)},
        "empty": {"final_linear.weight": torch.empty(4, 0)},
        "no-fan-in": {"a.modulated_conv.weight": torch.empty(1, 4, 0, 3, 3)},
        "integers": {"final_linear.weight": torch.ones(4, 4, dtype=torch.int64)},
        "layer-1e300": {"style_mlp.1" + "0" * 250 + ".weight": torch.ones(4, 4)},
        "unknown": {"something": torch.ones(4)},
        "twice": {"conv_body_first.weight": torch.ones(4, 3, 1, 1)},
        "alone": {},
    }
    for name, more in odd.items():
        yield Case(f"equalized-{name}", saved(equalized | more))


def _sizes(state: dict[str, Tensor]) -> Iterator[Case]:
    """Small files that ask for much memory, or for memory that isn't theirs."""
    huge = torch.zeros(1, dtype=torch.float16).expand(40_000, 1_000_000)
    yield Case("expanded-half", saved(state | {"final_conv.weight": huge}))
    equalized = {
        "conv_body_first.0.weight": torch.zeros(1).expand(30_000, 30_000, 1, 1),
        "final_linear.weight": torch.zeros(1).expand(30_000, 30_000),
    }
    yield Case("expanded-equalized", saved(equalized))
    yield Case("expanded-all", saved({k: torch.zeros(1).expand(v.shape) for k, v in state.items()}))
    shared = torch.zeros(100_000)
    yield Case("shared-1000-times", saved({f"n{i}": shared for i in range(1000)}))
    strided = torch.zeros(100_000).as_strided((2, 2), (1, 99_000))
    yield Case("far-apart-1000-times", saved({f"n{i}": strided for i in range(1000)}))
    for old in (False, True):
        data = saved({"params": {"a": torch.zeros(10)}}, old=old)
        form = "old" if old else "zip"
        yield Case(f"count-beyond-{form}", _recounted(data, 1_000_000, old))
        yield Case(f"count-2^31-{form}", _recounted(data, 2**31 - 1, old))


def _recounted(data: bytes, count: int, old: bool) -> bytes:
    """A file of 10 values that claims to have more."""
    claim = b"J" + struct.pack("<i", count)
    if old:
        return data.replace(b"K\n", claim)
    parts = _zip_parts(data)
    pickled = next(d for n, d in parts.items() if n.endswith("/data.pkl")).replace(b"K\n", claim)
    records = {n.split("/", 1)[1]: d for n, d in parts.items() if not n.endswith("/data.pkl")}
    return zip_file(pickled, records)


def _header(header: object, values: bytes = bytes(400)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def _headers(state: dict[str, Tensor]) -> Iterator[Case]:
    """Headers of safetensors files that contradict themselves, or ask for too much."""

    def entry(dtype: object, shape: object, offsets: object) -> object:
        return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}

    good = {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}
    headers: dict[str, object] = {
        "list": [1, 2],
        "number": b"{1",
        "empty": {},
        "entry-none": {"a": None},
        "entry-list": {"a": [1]},
        "no-shape": {"a": {"dtype": "F32", "data_offsets": [0, 400]}},
        "dtype-unknown": entry("F4", [100], [0, 400]),
        "dtype-list": entry(["F32"], [100], [0, 400]),
        "shape-negative": entry("F32", [-100], [0, 400]),
        "shape-fraction": entry("F32", [100.0], [0, 400]),
        "shape-string": entry("F32", "100", [0, 400]),
        "shape-true": entry("F32", [True], [0, 4]),
        "shape-2^60": entry("F32", [2**60, 2**60], [0, 400]),
        "shape-zero-times-2^60": entry("F32", [0, 2**60], [0, 0]),
        "shape-1e5-sides": entry("F32", [1] * 100_000, [0, 4]),
        "shape-huge-number": b'{"a": {"dtype": "F32", "shape": [1' + b"0" * 9000 + b"]}}",
        "offsets-beyond": entry("F32", [100_000_000], [0, 400_000_000]),
        "offsets-reversed": entry("F32", [100], [400, 0]),
        "offsets-negative": entry("F32", [100], [-400, 0]),
        "offsets-three": entry("F32", [100], [0, 400, 800]),
        "offsets-fraction": entry("F32", [100], [0.5, 400.5]),
        "overlapping": {f"n{i}": good for i in range(2000)},
        "nested": b'{"a": ' + b"[" * 100_000,
        "nested-whole": b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "metadata-list": {"__metadata__": [1], "a": good},
        "metadata-number": {"__metadata__": {"generator_config": 3}, "a": good},
        "infinity": b'{"a": {"dtype": "F32", "shape": [Infinity], "data_offsets": [0, 400]}}',
        "not-utf8": b'{"\xff\xfe": 1}',
    }
    for name, header in headers.items():
        yield Case(f"header-{name}", _header(header))
    for length in (2**63, 2**64 - 1, 2**32, 500):
        yield Case(f"header-of-{length}", struct.pack("<Q", length) + b'{"a": 1}')


def _configurations(state: dict[str, Tensor]) -> Iterator[Case]:
    """Descriptions of networks that can't be, or that would never end."""
    own = dataclasses.asdict(SMALL)
    yield Case("config-as-it-should-be", with_config(state, own), "network")
    changes: dict[str, object] = {
        "face_size_px": (0, -16, 17, 2**40, 1024, "16", 16.0, None, [16]),
        "channel_multiplier": (0, 3, "1", True),
        "narrow": (0, -1, 1e-9, 2.0, 1e9, float("nan"), float("inf"), "1", [1]),
        "style_features": (0, -1, 10**9, 2**70, 1e300, 16.5, "16"),
        "mlp_layers": (-1, 10**9, 2**70, 1.5, "1", 100_000),
        "resampling": ("nearest", 3, None, ["bilinear"]),
        "residual": ("yes", 1, None),
        "level_factors": (5, [5], [[16]], [[16, "x"]], [[16, 1e9]], [[float("inf"), 1]],
                          [[16, 8.0]], [[16, 1.0]] * 45_000),
        "unknown": (1,),
    }  # fmt: skip
    for field, values in changes.items():
        assert isinstance(values, tuple)
        for i, value in enumerate(values):
            yield Case(f"config-{field}-{i}", with_config(state, own | {field: value}))
    texts = {"word": "compact", "list": "[1]", "nested": "[" * 100_000, "empty": "", "null": "null"}
    for name, text in texts.items():
        yield Case(f"config-{name}", with_config(state, text))
