"""Restoration networks run by OpenVINO on the CPU."""

from __future__ import annotations

import functools
import hashlib
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gfpgan_core.backends.layout import copy_sharing_weights
from gfpgan_core.errors import InputError
from gfpgan_core.files import whole_file
from gfpgan_core.runtime import release_freed_memory, switch_off_telemetry
from gfpgan_core.weights.download import cache_folder
from gfpgan_core.weights.load import Network

_logger = logging.getLogger(__name__)


def load_openvino(network: nn.Module, precision: str) -> Callable[[Tensor], Tensor]:
    """Return a runner by OpenVINO on the CPU, which keeps what it compiles in the cache folder.

    Args:
        network: a restoration network: the model is made for one face of its size.
        precision: "f32" or "bf16".

    Raises:
        InputError: another kind of network, or a processor without bfloat16 instructions.
    """
    if not isinstance(network, Network):
        raise InputError(
            f"the OpenVINO back ends run restoration networks, not {type(network).__name__}:"
            " use auto"
        )
    switch_off_telemetry()
    import openvino

    core = openvino.Core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and "BF16" not in capabilities:
        raise InputError(
            "backend 'openvino-bf16' needs a processor with bfloat16 instructions; this one has"
            " none: use openvino"
        )
    folder = cache_folder() / "openvino"
    path = folder / f"{_fingerprint(network, openvino.__version__)}.xml"
    if not path.is_file():
        save_openvino(network, path)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "CACHE_DIR": str(folder),
    }
    request = core.compile_model(path, "CPU", settings).create_infer_request()
    release_once = functools.cache(release_freed_memory)

    def restore(lq: Tensor) -> Tensor:
        release_once()  # the network that was converted may be gone by now
        faces = []
        for face in lq:  # the shape is fixed: one face fills the cores
            output = request.infer([face[None].contiguous().numpy()])[0]
            faces.append(torch.from_numpy(output.copy()))
        return torch.cat(faces)

    return restore


def _fingerprint(network: Network, version: str) -> str:
    """Return a name of the weights, the shape, the code that computes, and OpenVINO together."""
    digest = hashlib.sha256(f"{network.config} {version} {torch.__version__}".encode())
    for path in sorted((Path(__file__).parent.parent / "networks").glob("*.py")):
        digest.update(path.read_bytes())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:32]


def save_openvino(network: Network, path: Path) -> None:
    """Convert the network to OpenVINO's files, `path` (.xml) and its .bin: both whole, or none."""
    import openvino

    size = network.config.face_size_px
    _logger.info("converting the network for OpenVINO: some 20 s, once")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of every constant
        example = torch.zeros(1, 3, size, size)
        model = openvino.convert_model(
            copy_sharing_weights(network), example_input=example, input=[1, 3, size, size]
        )
    # The weights get their name first: where there is an .xml, its .bin is whole.
    with (
        whole_file(path) as xml,
        whole_file(path.with_suffix(".bin")) as weights,
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder,
    ):
        model_file = Path(folder) / "model.xml"  # OpenVINO insists on the suffix
        openvino.save_model(model, model_file, compress_to_fp16=False)
        model_file.with_suffix(".bin").replace(weights)
        model_file.replace(xml)
