"""Which module may import which: the layers of the project, read from the sources."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from conftest import ROOT

from gfpgan_core.config import MAX_SCALE, MIN_SCALE, Background
from gfpgan_core.releases import BACKGROUNDS, RELEASES

# Each layer may import itself only where listed, and anything in the layers before it.
LAYERS = (
    {"errors", "config", "memory", "cores", "parts"},
    {"networks", "convert", "releases", "geometry", "compat"},
    {"images", "weights"},
    {"threads"},
    {"winograd", "pointwise"},
    {"cpu"},
    {"backends"},
    {"detect"},
    {"align", "masks"},
    {"paste", "background"},
    {"pipeline"},
    {"__main__", "__init__"},
)
WITHIN = {
    ("config", "errors"),
    ("networks", "networks"),
    ("convert", "errors"),
    ("releases", "config"),
}
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _imported(path: Path, package: str) -> set[str]:
    """Submodules of `package` that a file imports, however it writes it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == package:
                found |= {alias.name for alias in node.names}
            elif node.module.startswith(package + "."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            found |= {n.split(".")[1] for n in names if n.startswith(package + ".")}
    return found


def _module(path: Path) -> str:
    relative = path.relative_to(ROOT / "gfpgan_core")
    return relative.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", sorted((ROOT / "gfpgan_core").rglob("*.py")), ids=lambda p: p.stem)
def test_modules_look_downwards_only(path: Path) -> None:
    module = _module(path)
    for other in _imported(path, "gfpgan_core") & set(LEVEL):
        allowed = LEVEL[other] < LEVEL[module] or (module, other) in WITHIN
        assert allowed, f"{module} imports {other}"
    assert not _imported(path, "train")


def test_networks_know_nothing_of_files() -> None:
    for path in (ROOT / "gfpgan_core" / "networks").glob("*.py"):
        assert _imported(path, "gfpgan_core") <= {"config", "networks"}


def test_config_and_errors_need_no_torch() -> None:
    code = (
        "import sys; import gfpgan_core.config, gfpgan_core.releases; print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def _run_module(*arguments: object) -> subprocess.CompletedProcess[str]:
    """As the README says: from the project's folder, with nothing set up for it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "module",
    [
        "gfpgan_core",
        "train",
        "scripts.benchmark",
        "scripts.benchmark_gpu",
        "scripts.blend_weights",
        "scripts.compare_detectors",
        "scripts.evaluate",
        "scripts.fetch_weights",
        "scripts.prepare_faces",
        "scripts.preview_degradations",
        "scripts.training_cost",
        "scripts.training_curves",
        "scripts.split_faces",
        "scripts.write_openapi_schema",
    ],
)
def test_documented_commands_start(module: str) -> None:
    result = _run_module(module, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout


def test_the_predictors_literal_choices_are_the_tables(tmp_path: Path) -> None:
    """Cog wants literals in predict.py: they must not drift from the releases."""
    assert _run_module("scripts.write_openapi_schema", tmp_path).returncode == 0
    schema = json.loads((tmp_path / ".cog" / "openapi_schema.json").read_text())
    choices = schema["components"]["schemas"]
    assert choices["version"]["enum"] == list(RELEASES)
    assert choices["background_upsampler"]["enum"] == list(get_args(Background))
    assert get_args(Background) == ("none", *BACKGROUNDS)
    trainable = [name for name in RELEASES if name != "RestoreFormer"]
    assert choices["base_version"]["enum"] == [*trainable, "none"]
    scale = choices["Input"]["properties"]["scale"]
    assert (scale["minimum"], scale["maximum"]) == (MIN_SCALE, MAX_SCALE)


def test_cog_yaml_names_what_exists() -> None:
    config = yaml.safe_load((ROOT / "cog.yaml").read_text())
    file, name = config["predict"].split(":")
    classes = ast.parse((ROOT / file).read_text()).body
    assert name in {node.name for node in classes if isinstance(node, ast.ClassDef)}
    assert (ROOT / config["build"]["python_requirements"]).is_file()
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    file, name = config["train"].split(":")
    functions = ast.parse((ROOT / file).read_text()).body
    assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}
    (install,) = (line for line in config["build"]["run"] if "fdet" in line)
    assert install in (ROOT / "Makefile").read_text().replace("$(VENV)/bin/", "").replace(
        "--quiet ", ""
    )
    assert f"cog=={config['build']['sdk_version']}" in pins


def test_requirements_are_pinned_and_name_no_address() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            content = line.split("#")[0].strip()
            assert not content or content.startswith("-r ") or "==" in content, line
            assert "://" not in content and "--index" not in content
