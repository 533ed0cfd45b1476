"""docs/licenses.md has every pinned requirement, with its version and a license."""

from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name

from scripts.list_licenses import ROOT, TABLE, pinned

_ROWS = {
    cells[0]: cells[1:]
    for line in TABLE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
}


@pytest.mark.parametrize(
    "file", ["requirements.txt", "requirements-page.txt", "requirements-dev.txt"]
)
def test_every_pinned_requirement_is_in_the_table_with_a_version_that_is_pinned(file: str) -> None:
    versions: dict[str, set[str]] = {}
    for requirement in pinned(ROOT / file):
        pins = {specifier.version for specifier in requirement.specifier}
        versions.setdefault(canonicalize_name(requirement.name), set()).update(pins)
    assert len(versions) >= 5
    missing = [name for name in versions if name not in _ROWS]
    assert not missing, f"make licenses: {missing} aren't in {TABLE}"
    other = [name for name, pins in versions.items() if _ROWS[name][0] not in pins]
    assert not other, f"make licenses: {other} have other versions in {TABLE}"


def test_every_package_has_a_license_that_the_table_names() -> None:
    assert len(_ROWS) > 100
    assert [name for name, (_, text, _) in _ROWS.items() if text in ("", "UNKNOWN")] == []
