"""A weight file of the collection, and how such files are written."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any, Literal

import torch

Outcome = Literal["network", "refused", "either"]


@dataclass(frozen=True)
class Case:
    """A file, and what must become of it. `either`: the damage may lie in a value."""

    name: str
    data: bytes
    outcome: Outcome = "refused"


def saved(value: Any, *, old: bool = False) -> bytes:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def zip_file(pickled: bytes, records: dict[str, bytes], compression: int = 0) -> bytes:
    """A file in torch's zip form, whatever its parts are."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a/data.pkl", pickled)
        for name, data in records.items():
            archive.writestr(f"a/{name}", data)
    return buffer.getvalue()
