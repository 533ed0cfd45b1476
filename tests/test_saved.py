"""What `torch.save` wrote, read without its pickles being run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile.weight_files import zip_file

from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.saved import read_saved
from gfpgan_core.weights.stored import Limits


@pytest.mark.parametrize("old", [False, True])
def test_values_and_tensors_come_back_as_torch_reads_them(old: bool, tmp_path: Path) -> None:
    shared = torch.arange(3)
    values: dict[str, Any] = {
        "a": shared, "b": [shared, (1, 2.5, None)], "c": {"d": torch.ones(2, 3).t()}
    }  # fmt: skip
    torch.save(values, tmp_path / "x.pt", _use_new_zipfile_serialization=not old)
    found = read_saved(tmp_path / "x.pt", Limits())
    expected = torch.load(tmp_path / "x.pt", weights_only=True)
    assert torch.equal(found["a"], expected["a"]) and found["b"][0] is found["a"]
    assert found["b"][1] == expected["b"][1]
    assert torch.equal(found["c"]["d"], expected["c"]["d"])


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpys_numbers_become_pythons_under_the_names_of_both_numpys(
    module: bytes, tmp_path: Path
) -> None:
    values = [np.float64(0.1), np.float32(0.5), np.int64(-3), np.bool_(True)]
    torch.save(values, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pt").read_bytes()
    for own in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        data = data.replace(b"c%b\n" % own, b"c%b\n" % module)
    (tmp_path / "x.pt").write_bytes(data)
    found = read_saved(tmp_path / "x.pt", Limits())
    assert found == [0.1, 0.5, -3, True]
    assert [type(value) for value in found] == [float, float, int, bool]


def _nested(depth: int) -> bytes:
    return b"]" * depth + b"a" * (depth - 1)


def _doubled(times: int) -> bytes:
    """A tuple of two tuples of two tuples ..., each there once in the file."""
    pairs = b"".join(b"(h%ch%ctq%c" % (i, i, i + 1) for i in range(times))
    return b"(K\1K\1tq\0" + pairs


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (_nested(100_000), "nested too deeply"),
        (b"]q\0h\0a", "nested too deeply"),
        (b"cos\nsystem\n", "more than plain values and tensors: Foreign"),
    ],
    ids=["100,000 lists", "a list in itself", "a function"],
)
def test_what_cant_be_made_is_refused(body: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(zip_file(b"\x80\x02" + body + b".", {}))
    with pytest.raises(WeightsError, match=text):
        read_saved(tmp_path / "x.pt", Limits())


def test_parts_that_are_used_many_times_are_made_once(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(zip_file(b"\x80\x02" + _doubled(60) + b".", {}))
    found = read_saved(tmp_path / "x.pt", Limits())  # 2^61 values, if each were made
    for _ in range(60):
        assert found[0] is found[1]
        found = found[0]
    assert found == (1, 1)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(file_bytes=100), "allowed are 100"),
        (Limits(description_bytes=100), r"take \d+ bytes"),
        (Limits(instructions=10), "too many instructions"),
    ],
)
def test_a_file_that_asks_for_too_much_is_refused(
    limits: Limits, text: str, tmp_path: Path
) -> None:
    torch.save({"a" * 100: 1, "b": list(range(100))}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=text):
        read_saved(tmp_path / "x.pt", limits)


def test_a_file_that_is_changed_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gfpgan_core.weights.stored import WeightsFile

    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(3)}, path)
    read = WeightsFile.tensor

    def write_then_read(file: WeightsFile, stored: Any) -> torch.Tensor:
        time.sleep(0.02)  # beyond what a file system's clock tells apart
        with path.open("r+b") as other:
            other.write(b"PK")
        return read(file, stored)

    monkeypatch.setattr(WeightsFile, "tensor", write_then_read)
    with pytest.raises(WeightsError, match="changed while it was read"):
        read_saved(path, Limits())
