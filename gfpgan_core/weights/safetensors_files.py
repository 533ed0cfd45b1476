"""Read the header of safetensors files: 8 bytes of length, JSON, then the values.

Read here rather than by the library, which opens by name (the file that was verified may be
another one by then) and maps the file (which kills the process when it becomes shorter).
"""

from __future__ import annotations

import json
from typing import Any

import torch

from gfpgan_core.bounds import MAX_DESCRIPTION_BYTES
from gfpgan_core.weights.stored import (
    StoredTensor,
    UnreadableError,
    WeightsFile,
    contiguous_stride,
)

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def read_header(file: WeightsFile) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors by name, and the metadata.

    Raises:
        UnreadableError: damaged.
    """
    size = int.from_bytes(file.read_at(0, 8), "little")
    if size > min(MAX_DESCRIPTION_BYTES, file.size - 8):
        raise UnreadableError("it is cut off or damaged: its header reaches beyond its end")
    try:
        header = json.loads(file.read_at(8, size).decode())
        metadata = header.pop("__metadata__", None) or {}
        tensors = {name: _tensor(entry, 8 + size) for name, entry in header.items()}
    except UnreadableError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"its header is damaged ({type(error).__name__})") from error
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise UnreadableError("its metadata is damaged")
    return tensors, metadata


def _tensor(entry: Any, data_start: int) -> StoredTensor:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise UnreadableError(f"it has values of type {str(entry['dtype'])[:40]}")
    shape = tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if type(begin) is not int or begin < 0:
        raise UnreadableError("its header is damaged: a tensor starts nowhere")
    # The shape's sizes are checked before they are multiplied.
    StoredTensor(dtype, 0, shape, (0,) * len(shape))
    tensor = StoredTensor(dtype, data_start + begin, shape, contiguous_stride(shape))
    if tensor.bytes != end - begin:
        raise UnreadableError("its header is damaged: a tensor's size isn't that of its shape")
    return tensor
