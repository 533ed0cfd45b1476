"""The `.pth` of GFPGAN v1.4: gfpgan, AUTOMATIC1111, ComfyUI and all that reads through spandrel."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from pathlib import Path

import torch

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.export.writing import written

_HELD = GeneratorConfig()  # gfpgan's default, and fixed in spandrel


def pth_name(stem: str) -> str:
    """Return a file name that AUTOMATIC1111 and ComfyUI take for a GFPGAN.

    ReActor enlarges its crops where a name holds 1024 or 2048.
    """
    name = re.sub(r"1024|2048", "", re.sub(r"[^\w.-]+", "_", stem)).strip("._-")
    return f"GFPGANv1.4-{name or 'own'}.pth"


def export_pth(network: GFPGAN, path: Path, *, replace: bool = False) -> None:
    """Write `{"params_ema": ...}` of plain float32 tensors by upstream's names.

    Raises:
        InputError: a shape that these tools don't hold; or `path` exists, and `replace` is off.
        WeightsError: the file can't be written.
    """
    differences = [
        f"{field.name} is {own!r}, and must be {held!r}"
        for field in dataclasses.fields(GeneratorConfig)
        if (own := getattr(network.config, field.name)) != (held := getattr(_HELD, field.name))
    ]
    if differences:
        raise InputError(
            "gfpgan and spandrel hold one shape of network only, that of v1.4, and these weights"
            f" are of another ({'; '.join(differences)}): export them with --to onnx, which"
            " facefusion and ReActor read, or with --to hub, which this program reads"
        )
    # Plain tensors: spandrel refuses pickled parameters.
    state = OrderedDict(
        (name, value.detach().float().cpu().clone()) for name, value in network.state_dict().items()
    )
    with written(path, replace=replace) as temporary, temporary.open("wb") as file:
        torch.save({"params_ema": state}, file)
