"""Which module may import which: the layers of the project, read from the sources."""

from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from scripts.draw_architecture import PACKAGES, imported_modules, module_name, sources
from scripts.draw_architecture import main as draw

# From the ground up. A module belongs to the entry with the longest name that it starts with; it
# may import what its own entry's modules offer (WITHIN) and everything in the layers before.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("gfpgan_core.errors", "gfpgan_core.bounds"),
    (
        "gfpgan_core.config",
        "gfpgan_core.runtime",
        "gfpgan_core.tiling",
        "gfpgan_core.files",
        "gfpgan_core.formats",
        "gfpgan_core.fetching",
    ),
    ("gfpgan_core.geometry", "gfpgan_core.compat", "gfpgan_core.networks"),
    (
        "gfpgan_core.images",
        "gfpgan_core.weights",
        "gfpgan_core.serving",
        "gfpgan_core.client_errors",
    ),
    ("gfpgan_core.backends.layout", "gfpgan_core.backends.replace"),
    ("gfpgan_core.backends.cpu",),
    ("gfpgan_core.backends.gpu", "gfpgan_core.backends.openvino"),
    ("gfpgan_core.backends",),
    ("gfpgan_core.detectors",),
    ("gfpgan_core.close_up",),
    ("gfpgan_core.detect",),
    ("gfpgan_core.choose", "gfpgan_core.align", "gfpgan_core.masks", "gfpgan_core.damage"),
    ("gfpgan_core.paste", "gfpgan_core.background"),
    ("gfpgan_core.result", "gfpgan_core.job"),
    ("gfpgan_core.pipeline",),
    ("gfpgan_core.loading",),
    ("gfpgan_core.batch", "gfpgan_core.video"),
    ("gfpgan_core.cli",),
    ("gfpgan_core.upstream",),
    ("gfpgan_core", "gfpgan_core.__main__"),
    ("train",),
    ("scripts", "predict", "examples", "integrations"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

# Entries whose modules import each other: each of these has an order of its own.
WITHIN = {
    "gfpgan_core.images",
    "gfpgan_core.networks",
    "gfpgan_core.weights",
    "gfpgan_core.backends.cpu",
    "gfpgan_core.batch",
    "gfpgan_core.cli",
    "gfpgan_core.upstream",
    "gfpgan_core.video",
    "train",
    "scripts",
}


MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60


def _entry(module: str) -> str:
    """The layers' entry that a module belongs to.

    Raises:
        KeyError: a module of gfpgan_core that no layer lists.
    """
    name = module
    while name not in LEVEL:
        name = name.rpartition(".")[0]
        if name in ("", "gfpgan_core"):
            raise KeyError(f"{module} is in no layer: add it to LAYERS")
    return name


@pytest.mark.parametrize("path", sources(), ids=module_name)
def test_modules_look_downwards_only(path: Path) -> None:
    module = module_name(path)
    own = _entry(module)
    for other in imported_modules(path):
        theirs = _entry(other)
        allowed = LEVEL[theirs] < LEVEL[own] or (theirs == own and own in WITHIN)
        assert allowed, f"{module} imports {other}"


def _python_files() -> list[Path]:
    folders = (*PACKAGES, "tests")
    return [*ROOT.glob("*.py"), *(p for name in folders for p in (ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize("path", _python_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_a_private_name_of_another(path: Path) -> None:
    assert not list(_private_uses(ast.parse(path.read_text(encoding="utf-8"))))


def _private_uses(tree: ast.Module) -> Iterator[str]:
    """Yield what a module takes of others' private names: imported, read or replaced.

    Programs that tests start are text in them: they are read as well.
    """
    ours = {*PACKAGES, *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ours:
            modules |= {alias.asname or alias.name for alias in node.names}
            yield from (
                f"{node.module}.{alias.name}" for alias in node.names if _private(alias.name)
            )
        elif isinstance(node, ast.Constant) and "\nfrom " in str(node.value):
            with contextlib.suppress(SyntaxError):  # prose
                yield from _private_uses(ast.parse(str(node.value)))
    for node in ast.walk(tree):
        name: object = None
        owner: ast.AST | None = None
        if isinstance(node, ast.Attribute):
            owner, name = node.value, node.attr
        elif isinstance(node, ast.Call) and len(node.args) > 1:  # monkeypatch.setattr(module, name)
            owner = node.args[0]
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
        if isinstance(owner, ast.Name) and owner.id in modules and _private(name):
            yield f"{owner.id}.{name}"


def _private(name: object) -> bool:
    return isinstance(name, str) and name.startswith("_") and not name.startswith("__")


def test_the_use_of_a_private_name_is_seen_however_it_is_written() -> None:
    lines = [  # in pieces: this file is read as well
        "from gfpgan_core import images, pipeline",
        "from conftest import _tinting",
        "images._decode()",
        'monkeypatch.setattr(pipeline, "_P", 1)',
        'CHILD = "import sys\\nfrom gfpgan_core.paste import _blend_change"',
        "self._own = torch._C.x",
    ]
    assert sorted(_private_uses(ast.parse("\n".join(lines)))) == [
        "conftest._tinting",
        "gfpgan_core.paste._blend_change",
        "images._decode",
        "pipeline._P",
    ]


def test_files_and_functions_are_short() -> None:
    long = []
    for path in _python_files():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        lines = len(text.splitlines())
        if lines > MAX_FILE_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{name}: {node.name} has {lines} lines")
    assert not long


def test_what_others_may_use_is_documented() -> None:
    """Public modules, classes and functions; a network's `forward` is what its class says."""
    bare = []
    for path in sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        bare += [f"{module_name(path)}: {name}" for name in _undocumented(tree)]
    assert not bare


def _undocumented(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and not child.name.startswith("_"):
            is_told_elsewhere = child.name in ("forward", "main") or any(
                isinstance(decorator, ast.Attribute) and decorator.attr == "setter"
                for decorator in child.decorator_list
            )
            if ast.get_docstring(child) is None and not is_told_elsewhere:
                yield child.name
            if isinstance(child, ast.ClassDef):
                yield from (f"{child.name}.{name}" for name in _undocumented(child))


def test_a_back_end_is_reached_through_one_door() -> None:
    """Outside of the folder, only `gfpgan_core.backends` itself is imported."""
    for path in sources():
        module = module_name(path)
        inside = {m for m in imported_modules(path) if m.startswith("gfpgan_core.backends.")}
        if not module.startswith("gfpgan_core.backends"):
            assert not inside, f"{module} imports {inside}"


def test_networks_know_nothing_of_files() -> None:
    for path in (ROOT / "gfpgan_core" / "networks").glob("*.py"):
        allowed = ("gfpgan_core.config", "gfpgan_core.networks")
        assert all(name.startswith(allowed) for name in imported_modules(path)), path


@pytest.mark.parametrize(
    "modules",
    [
        "gfpgan_core.config, gfpgan_core.runtime, gfpgan_core.weights.releases",
        # These set the process up first: OpenMP reads its settings when torch is imported.
        "gfpgan_core.__main__, gfpgan_core.upstream.command, train.__main__, scripts.train_stages",
        "gfpgan_core.cli.batch, gfpgan_core.cli.serve_page, gfpgan_core.batch.child",
        "gfpgan_core.cli.video",
    ],
)
def test_what_runs_before_the_set_up_needs_no_torch(modules: str) -> None:
    assert not _imports(modules, "torch")


def test_commands_begin_without_numpy() -> None:
    assert not _imports("gfpgan_core.__main__", "numpy")
    assert _imports("gfpgan_core.cli.batch", "numpy")  # imported by that command alone


def _imports(modules: str, other: str) -> bool:
    """Whether a fresh process that imports modules has imported another one with them."""
    code = f"import sys; import {modules}; print({other!r} in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return result.stdout == "True\n"


def test_the_drawing_of_the_imports_is_of_todays() -> None:
    assert draw(["--check"]) == 0


def test_an_import_is_seen_however_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import gfpgan_core.errors\n"
        "from gfpgan_core import images\n"
        "from gfpgan_core.weights import releases as r\n"
        "def f():\n    from gfpgan_core.config import RestoreOptions, MAX_SCALE\n"
        "import torch\n"
    )
    assert imported_modules(path) == {
        "gfpgan_core.errors",
        "gfpgan_core.images",
        "gfpgan_core.weights.releases",
        "gfpgan_core.config",
    }
