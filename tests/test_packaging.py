"""What is shipped and documented starts, agrees with its tables, and names what exists."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import yaml
from conftest import ROOT

from gfpgan_core.config import MAX_SCALE, MIN_SCALE, Background, GeneratorConfig
from gfpgan_core.formats import READABLE_TEXT, WRITABLE
from gfpgan_core.weights.releases import BACKGROUNDS, RELEASES


def _run_module(*arguments: object) -> subprocess.CompletedProcess[str]:
    """As the README says: from the project's folder, with nothing set up for it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


# Every script, found: one that is added is tried as well.
SCRIPTS = sorted(
    f"scripts.{path.stem}"
    for path in (ROOT / "scripts").glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)


# One process for all: most of the time of `--help` goes to importing torch.
_HELP = """
import contextlib, io, runpy, sys
for module in sys.argv[1:]:
    sys.argv, said, status = [module, "--help"], io.StringIO(), None
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code
    print(module, status or 0, "usage:" in said.getvalue())
"""


def test_documented_commands_start() -> None:
    modules = ["gfpgan_core", "gfpgan_core.upstream", "train", *SCRIPTS]
    before = _assets()
    result = subprocess.run(
        [sys.executable, "-c", _HELP, *modules],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [f"{module} 0 True" for module in modules]
    assert _assets() == before  # asking for help writes nothing


def _assets() -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (ROOT / "assets").iterdir()}


def test_the_predictors_literal_choices_are_the_tables(tmp_path: Path) -> None:
    """Cog wants literals in predict.py: they must not drift from the releases."""
    assert _run_module("scripts.write_openapi_schema", tmp_path).returncode == 0
    schema = json.loads((tmp_path / ".cog" / "openapi_schema.json").read_text())
    choices = schema["components"]["schemas"]
    assert choices["version"]["enum"] == list(RELEASES)
    assert choices["background_upsampler"]["enum"] == list(get_args(Background))
    assert get_args(Background) == ("none", *BACKGROUNDS)
    trainable = [name for name, r in RELEASES.items() if isinstance(r.config, GeneratorConfig)]
    assert choices["base_version"]["enum"] == [*trainable, "none"]
    assert choices["output_format"]["enum"] == ["auto", *WRITABLE]
    assert READABLE_TEXT.replace(" and ", " or ") in (ROOT / "predict.py").read_text()
    scale = choices["Input"]["properties"]["scale"]
    assert (scale["minimum"], scale["maximum"]) == (MIN_SCALE, MAX_SCALE)


def test_cog_yaml_names_what_exists() -> None:
    config = yaml.safe_load((ROOT / "cog.yaml").read_text())
    file, name = config["run"].split(":")
    classes = ast.parse((ROOT / file).read_text()).body
    assert name in {node.name for node in classes if isinstance(node, ast.ClassDef)}
    assert (ROOT / config["build"]["python_requirements"]).is_file()
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    file, name = config["train"].split(":")
    functions = ast.parse((ROOT / file).read_text()).body
    assert name in {node.name for node in functions if isinstance(node, ast.FunctionDef)}
    (install,) = (line for line in config["build"]["run"] if "fdet" in line)
    assert install.rpartition("--no-deps ")[2] in (ROOT / "Makefile").read_text()
    assert f"cog=={config['build']['sdk_version']}" in pins


def test_requirements_are_pinned_and_name_no_address() -> None:
    for name in ("requirements.txt", "requirements-page.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            content = line.split("#")[0].strip()
            assert not content or content.startswith("-r ") or "==" in content, line
            assert "://" not in content and "--index" not in content
