"""One ONNX file of a generator: facefusion, ReActor, and any program with onnxruntime."""

from __future__ import annotations

import importlib.util
import warnings
import zlib
from pathlib import Path

import torch
from torch import Tensor, nn

from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.export.writing import check_free, written

_OPSET = 17  # what runtimes of 2022 and later hold

FACEFUSION_NAME = "gfpgan_1.4"
"""Under which facefusion looks for both files in its `.assets/models`."""
_FACEFUSION_SIDE_PX = 512


class _Fixed(nn.Module):
    """The network without `noise_seeds`, which the exporter would pass by position."""

    def __init__(self, network: GFPGAN) -> None:
        super().__init__()
        self.network = network.eval()

    def forward(self, lq: Tensor) -> Tensor:
        restored: Tensor = self.network(lq)
        return restored


def export_onnx(network: GFPGAN, path: Path, *, replace: bool = False) -> None:
    """Write the network, in float32 on the CPU, as ONNX; its noise is fixed.

    `input`: float32 (N, 3, size, size) RGB in -1..1; `output`: the same, unclipped.

    Raises:
        InputError: `onnx` isn't installed; or `path` exists, and `replace` is off.
        WeightsError: the file can't be written.
    """
    if importlib.util.find_spec("onnx") is None:
        raise InputError("exporting to ONNX needs the package onnx: pip install onnx")
    side = network.config.face_size_px
    with written(path, replace=replace) as temporary, warnings.catch_warnings():
        # The tracer's, on sizes that are constant here; and that it is the older exporter: the
        # newer one needs another package, and writes large weights into a second file.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Fixed(network),
            (torch.zeros(1, 3, side, side),),
            str(temporary),
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )


def export_for_facefusion(network: GFPGAN, folder: Path, *, replace: bool = False) -> list[Path]:
    """Write the ONNX file and the checksum without which facefusion downloads its own over it.

    Raises:
        InputError: another size than facefusion's, or as `export_onnx`.
        WeightsError: the files can't be written.
    """
    side = network.config.face_size_px
    if side != _FACEFUSION_SIDE_PX:
        raise InputError(
            f"facefusion's faces have {_FACEFUSION_SIDE_PX} px, these weights are for {side} px:"
            " leave --facefusion out, for programs that take any size"
        )
    model, checksum = (folder / f"{FACEFUSION_NAME}.{kind}" for kind in ("onnx", "hash"))
    check_free(checksum, replace=replace)
    export_onnx(network, model, replace=replace)
    with written(checksum, replace=replace) as temporary:
        temporary.write_text(f"{zlib.crc32(model.read_bytes()):08x}", encoding="ascii")
    return [model, checksum]
