"""docs/from_upstream.md: its examples and commands run as they stand, its names exist."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pages
import pytest
import torch
from conftest import PORTRAIT, ROOT, TINY, random_network

import gfpgan_core.__main__
import train.__main__
from gfpgan_core.upstream import GFPGANer, command, face_helper

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = (ROOT / "docs" / "from_upstream.md").read_text(encoding="utf-8")
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "python -m gfpgan_core.upstream ": command.main,
    "gfpgan ": gfpgan_core.__main__.main,
    "python -m train ": train.__main__.main,
}


COMMANDS = pages.commands("from_upstream.md")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page takes for granted: small models, photos, upstream's option file."""
    monkeypatch.chdir(tmp_path)
    network = random_network(3, dataclasses.replace(TINY, channel_multiplier=2))
    for name in ("models/GFPGANv1.4.pth", "gfpgan/weights/GFPGANv1.3.pth"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        torch.save({"params_ema": network.state_dict()}, name)
    photo = cv2.imread(str(PORTRAIT))
    assert photo is not None
    Path("inputs/whole_imgs").mkdir(parents=True)
    for name in ("photo.jpg", "inputs/whole_imgs/photo.jpg"):
        cv2.imwrite(name, cv2.resize(photo, (128, 128)))
    Path("options").mkdir()
    options = ROOT / "tests" / "data" / "upstream_train_gfpgan_v1.yml"
    shutil.copy(options, "options/train_gfpgan_v1.yml")
    return tmp_path


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_works_as_it_stands(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    ((start, main),) = [item for item in PROGRAMS.items() if line.startswith(item[0])]
    assert main(shlex.split(line.removeprefix(start))) == 0


@pytest.mark.parametrize("code", pages.blocks("from_upstream.md", kind="python"))
def test_the_example_works_as_it_stands(code: str) -> None:
    real = {name: m for name, m in sys.modules.items() if name.partition(".")[0] == "gfpgan"}
    for name in real:
        del sys.modules[name]
    names: dict[str, object] = {}
    try:
        exec(compile(code, "from_upstream.md", "exec"), names)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "gfpgan"]:
            del sys.modules[name]
        sys.modules.update(real)
    assert names["GFPGANer"] is GFPGANer
    if "restored_img" in names:
        restored = cv2.imread("restored.png")
        assert restored is not None and restored.shape == (256, 256, 3)


def test_the_options_in_the_table_are_the_command_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        gfpgan_core.__main__.main(["restore", "--help"])
    offered = capsys.readouterr().out
    rows = re.findall(r"^\| `?(?:-i|-v|--|-w)[^|]*\| ([^|]*) \|", PAGE, re.MULTILINE)
    for option in re.findall(r"--[a-z-]+", " ".join(rows)):
        assert option in offered


def test_the_names_of_the_helper_are_there() -> None:
    assert "`face_helper`" in PAGE.replace(".face_helper", "face_helper")
    offered = {"clean_all()", "face_det", "face_parse", *face_helper.FaceLists.__dataclass_fields__}
    (listed,) = re.findall(r"`\.face_helper` \((.*?)\)[ \n]+are there", PAGE, re.DOTALL)
    assert set(re.findall(r"`([^`]+)`", listed)) <= offered
