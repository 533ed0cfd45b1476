"""Draw the project's import graph into docs/architecture.md; `--check` only compares."""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("gfpgan_core", "train", "scripts", "predict", "examples", "integrations")
DOCUMENT = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by scripts.draw_architecture -->", "<!-- end of the drawing -->"

# Below every other module: arrows to them would cover the picture.
_GROUND = {"gfpgan_core.errors", "gfpgan_core.config", "gfpgan_core.files", "gfpgan_core.tiling"}


def sources() -> list[Path]:
    """Return the project's Python files, tests left out."""
    found = [path for path in ROOT.glob("*.py") if path.stem in PACKAGES]
    for package in PACKAGES:
        found += (ROOT / package).rglob("*.py")
    return sorted(found)


def module_name(path: Path) -> str:
    """Return the dotted name of a file: a package's own for its `__init__.py`."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    """Return the project's modules that a file imports, anywhere in it."""
    known = {module_name(source) for source in sources()}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in known else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def drawing() -> str:
    """Return a Mermaid graph: a box for each file or folder of the core, arrows to what it imports.

    An arrow that a longer path implies is left out, and those to the ground modules, which
    everything may import.
    """
    arrows: dict[str, set[str]] = defaultdict(set)
    for path in sources():
        box = _box(module_name(path))
        arrows[box] |= {_box(name) for name in imported_modules(path)}
    arrows = {box: ends - _GROUND - {box} for box, ends in arrows.items() if box not in _GROUND}
    lines = ["```mermaid", "flowchart TD"]
    for box in sorted(arrows):
        lines.append(f'    {_key(box)}["{box.removeprefix("gfpgan_core.")}"]')
    for box in sorted(arrows):
        longer = set().union(*(_reachable(end, arrows) for end in arrows[box]))
        lines += [f"    {_key(box)} --> {_key(end)}" for end in sorted(arrows[box] - longer)]
    return "\n".join([*lines, "```"])


def _box(module: str) -> str:
    """Return the file or folder right under gfpgan_core, or the top-level name."""
    parts = module.split(".")
    if parts[0] != "gfpgan_core" or len(parts) == 1:
        return parts[0]
    return ".".join(parts[:2])


def _key(box: str) -> str:
    return box.replace(".", "_").strip("_")


def _reachable(start: str, arrows: dict[str, set[str]]) -> set[str]:
    """Return what is below a box, itself left out."""
    found: set[str] = set()
    waiting = list(arrows.get(start, ()))
    while waiting:
        box = waiting.pop()
        if box not in found:
            found.add(box)
            waiting += arrows.get(box, ())
    return found


def updated(text: str) -> str:
    """Return the document with the drawing between its two marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{drawing()}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 1 if `--check` finds the drawing out of date."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.draw_architecture", description=__doc__
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args(arguments).check
    text = DOCUMENT.read_text(encoding="utf-8")
    if check and updated(text) != text:
        print(f"{DOCUMENT} is out of date: python -m scripts.draw_architecture", file=sys.stderr)
        return 1
    if not check:
        DOCUMENT.write_text(updated(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
