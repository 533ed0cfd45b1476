"""A folder as model hubs hold one: weights, configuration, and a card that people read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.export.writing import check_free, written
from gfpgan_core.weights.folders import CONFIG_NAME, WEIGHTS_NAME

_CARD_NAME = "README.md"


def export_hub(
    network: GFPGAN, folder: Path, *, title: str, license_id: str = "", replace: bool = False
) -> list[Path]:
    """Write `model.safetensors`, `config.json` and `README.md`; return their paths.

    Args:
        title: The model's name.
        license_id: As hubs spell it, such as `apache-2.0`; empty: nothing is said.

    Raises:
        InputError: one of them exists, and `replace` is off.
        WeightsError: they can't be written.
    """
    weights, config, card = (folder / name for name in (WEIGHTS_NAME, CONFIG_NAME, _CARD_NAME))
    for path in (weights, config, card):
        check_free(path, replace=replace)
    described = json.dumps(dataclasses.asdict(network.config), indent=2) + "\n"
    with written(config, replace=replace) as temporary:
        temporary.write_text(described, encoding="utf-8")
    with written(card, replace=replace) as temporary:
        temporary.write_text("\n".join(_card(network, title, license_id)) + "\n", encoding="utf-8")
    save_safetensors(network, weights)  # last: without it the folder holds nothing to be read
    return [weights, config, card]


def _card(network: GFPGAN, title: str, license_id: str) -> Iterator[str]:
    """Yield the card's lines: metadata first."""
    config = network.config
    parameters = sum(parameter.numel() for parameter in network.parameters())
    yield "---"
    if license_id:
        yield f"license: {json.dumps(license_id)}"
    yield "pipeline_tag: image-to-image"
    yield "library_name: gfpgan-core"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("gfpgan", "face-restoration", "image-restoration"))
    yield "---"
    yield f"\n# {title}\n"
    yield (
        f"A GFPGAN generator of {parameters / 1e6:.1f} million parameters for faces of"
        f" {config.face_size_px} px: RGB in -1..1, aligned on FFHQ's template."
    )
    yield "\n```sh\npython -m gfpgan_core restore photo.jpg --weights FOLDER\n```\n"
    yield (
        "Restored detail is invented from what the network has seen of faces: don't identify"
        " people by it.\n\n## To be said by who publishes it\n"
    )
    yield "- What it was trained on, and under which license."
    yield "- What it was measured on, with which figures."
