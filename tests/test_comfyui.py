"""The ComfyUI node, loaded as ComfyUI loads it, with ComfyUI's own modules stubbed."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
import pytest
import torch
from conftest import ROOT

from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8

_FOLDER = ROOT / "integrations" / "comfyui"


class _ComfyUI:
    """What the node uses of ComfyUI, and what it did with it."""

    def __init__(self) -> None:
        self.done = 0
        self.is_interrupted = False

    def modules(self) -> dict[str, types.ModuleType]:
        class ProgressBar:
            def __init__(self, total: int) -> None:
                self.total = total

            def update(self, value: int) -> None:
                comfy.done += value

        comfy = self
        management = types.ModuleType("comfy.model_management")
        utilities = types.ModuleType("comfy.utils")
        package = types.ModuleType("comfy")
        vars(management).update(
            get_torch_device=lambda: torch.device("cpu"),
            throw_exception_if_processing_interrupted=self._check,
        )
        vars(utilities).update(ProgressBar=ProgressBar)
        vars(package).update(model_management=management, utils=utilities)
        return {module.__name__: module for module in (package, management, utilities)}

    def _check(self) -> None:
        if self.is_interrupted:
            raise InterruptedError


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> Iterator[_ComfyUI]:
    comfy = _ComfyUI()
    for name, module in comfy.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    yield comfy
    for name in [name for name in sys.modules if name.startswith("custom_nodes_gfpgan")]:
        del sys.modules[name]


def _node(folder: Path) -> Any:
    """As ComfyUI's `load_custom_node` does it."""
    name = "custom_nodes_gfpgan"
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    (node,) = module.NODE_CLASS_MAPPINGS.values()
    assert module.NODE_DISPLAY_NAME_MAPPINGS.keys() == module.NODE_CLASS_MAPPINGS.keys()
    return node


def _defaults(node: Any) -> dict[str, Any]:
    """What ComfyUI gives for inputs that the user leaves alone."""
    return {
        name: kind[1]["default"]
        for group in node.INPUT_TYPES().values()
        for name, kind in group.items()
        if len(kind) > 1
    }


def test_the_documented_copy_restores_faces_and_nothing_else(
    comfyui: _ComfyUI, tmp_path: Path, portrait: ImageU8, tiny_weights: Path
) -> None:
    (tmp_path / "ComfyUI" / "custom_nodes").mkdir(parents=True)
    (tmp_path / "integrations").symlink_to(ROOT / "integrations")
    text = (_FOLDER / "README.md").read_text(encoding="utf-8")
    install, copy = pages.commands_in(text)
    assert install == "pip install ."  # tests/test_wheel.py
    subprocess.run(["sh", "-c", copy], cwd=tmp_path, check=True)
    node = _node(tmp_path / "ComfyUI" / "custom_nodes" / "gfpgan")

    exact = torch.from_numpy(portrait[::2, ::2].copy()).float() / 255 + 0.0007
    image = torch.stack([exact, torch.full_like(exact, 0.3)])
    (restored,) = getattr(node(), node.FUNCTION)(
        image=image, **{**_defaults(node), "weights": str(tiny_weights)}
    )
    assert restored.shape == image.shape and restored.dtype == torch.float32
    assert restored.min() >= 0 and restored.max() <= 1.001
    changed = (restored[0] - image[0]).abs().max(dim=-1).values
    assert changed[60:140, 90:170].max() > 0.02  # the face
    assert torch.equal(restored[0, :8], image[0, :8])  # the border: not even rounded
    assert torch.equal(restored[1], image[1])  # no face
    assert comfyui.done == 2


def test_the_size_follows_the_scale_and_alpha_is_left_out(
    comfyui: _ComfyUI, tiny_weights: Path
) -> None:
    node = _node(_FOLDER)
    image = torch.zeros(1, 32, 48, 4)
    chosen = {**_defaults(node), "scale": 1.5, "weights": str(tiny_weights)}
    (restored,) = node().restore(image=image, **chosen)
    assert restored.shape == (1, 48, 72, 3)


def test_an_interruption_and_a_wrong_choice_reach_comfyui(comfyui: _ComfyUI) -> None:
    node = _node(_FOLDER)
    chosen = {**_defaults(node), "detector": "none"}
    with pytest.raises(InputError, match="allowed: auto"):
        node().restore(image=torch.zeros(1, 32, 32, 3), **chosen)
    comfyui.is_interrupted = True
    with pytest.raises(InterruptedError):
        node().restore(image=torch.zeros(1, 32, 32, 3), **_defaults(node))


def test_the_inputs_are_those_of_the_readme(comfyui: _ComfyUI) -> None:
    text = (_FOLDER / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) ?\|$", text, re.MULTILINE)
    given = _defaults(_node(_FOLDER))
    shown = {name: f"{value:g}" for name, value in given.items() if isinstance(value, float)}
    shown |= {name: "off" for name, value in given.items() if value is False}
    assert {name: default.strip("` ") for name, default in rows} == given | shown
