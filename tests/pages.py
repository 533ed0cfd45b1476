"""Pages of docs/ and others: their blocks of code, and their commands run in this process."""

from __future__ import annotations

import importlib
import re
import shlex

from conftest import ROOT

import gfpgan_core.__main__
import train.__main__


def blocks(page: str, heading: str = "", kind: str = "sh") -> list[str]:
    """Return the blocks of code of a page in docs/, or of one of its sections."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    if heading:
        (text,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    found = blocks_in(text, kind)
    assert found, (page, heading)
    return found


def commands(page: str, heading: str = "") -> list[str]:
    """Return the commands of a page in docs/, or of one of its sections."""
    return _commands(blocks(page, heading))


def blocks_in(text: str, kind: str = "sh") -> list[str]:
    """Return the blocks of code of a text."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.M | re.S)


def commands_in(text: str) -> list[str]:
    """Return the commands of a text; it may have none."""
    return _commands(blocks_in(text))


def without_blocks(text: str) -> str:
    """Return a text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def _commands(found: list[str]) -> list[str]:
    """Return the blocks' commands, one a line, without comments."""
    lines = "".join(found).replace("\\\n", " ").splitlines()
    return [line for one in lines if (line := re.sub(r"\s+#.*", "", one).strip())]


def run(command: str) -> int:
    """Return the exit status of a command of ours, run in this process."""
    program, *arguments = shlex.split(command.removeprefix("python -m "))
    if program == "gfpgan_core":
        return gfpgan_core.__main__.main(arguments)
    if program == "train":
        return train.__main__.main(arguments)
    assert program.startswith("scripts."), command
    return int(importlib.import_module(program).main(arguments))
