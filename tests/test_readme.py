"""Every command of the README and of pages of its own, as it stands, in a copy of the project.

Only what a reader has is there: the environment that the first two commands make, and photos by the
names that the pages give them. Commands that need a download run as well: with downloads forbidden,
that must be all that stops them. Links of all pages lead somewhere.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pages
import pytest
from conftest import HANG_S, PORTRAIT, ROOT
from PIL import Image

from gfpgan_core.__main__ import main

# Those whose commands no test of their own runs.
_PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("command_line", "files", "weights", "training", "serving")),
)

_ACTIVATE = "source .venv/bin/activate"

# Start of a command -> why it is left out, as pytest's summary shows it.
_LEFT_OUT = {
    "make test": "this is it",
    "cog ": "needs Docker",
    "curl ": "needs the server of the command before; tests/test_cog_train.py sends the same",
    "make serve TRAIN": "as `make serve`; tests/test_cog_train.py trains over it",
    "GFPGAN_WEIGHTS_DIR=weights ": "downloads 500 MB into the project: `fetch` itself is tried",
    "pip install": "changes the environment that runs the tests",
    "make soak": "sends 2,000 requests; tests/test_soak.py runs its parts",
    "make bench": "takes half an hour, and wants the machine for itself",
    "make train-compact": "takes days; tests/test_stages.py runs it with tiny networks",
    "make train-smoke": "runs tests/test_smoke.py, which the suite runs as well",
    "accelerate launch": "tests/test_stages.py trains with several processes",
    "torchrun": "tests/test_stages.py trains with several processes",
    "python -m scripts.benchmark_gpu": "needs a GPU",
    "python -m gfpgan_core serve-page": "runs for ever; tests/test_serve_page.py runs it",
    "python -m scripts.evaluate": "takes a minute; tests/test_stages.py runs it",
}
_NEEDS_A_DOWNLOAD = ("python -m gfpgan_core fetch", "python -m train --config configs/finetune")

# A user's own, small.
_CONFIGURATION = """
run_folder: runs/own
train_faces: FACES
generator: {face_size_px: 64, narrow: 0.125, channel_multiplier: 1, residual: true}
discriminators: {narrow: 0.125, component_narrow: 0.125, channel_multiplier: 1}
losses: {pixel: 1.0, pyramid: 0, perceptual: 0, style: 0, adversarial: 0,
  component_adversarial: 0, component_style: 0, identity: 0, r1: 0}
"""


def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def _commands_in_sentences(page: str) -> list[str]:
    """Those in running text; FILE and FACES in them are a configuration and a folder of faces."""
    spans = re.findall(r"`([^`]+)`", pages.without_blocks(_text(page)))
    spans = [" ".join(span.split()) for span in spans]
    programs = ("python -", "make ", "pip ", "accelerate ", "torchrun ", "gfpgan ")
    return sorted({span for span in spans if span.startswith(programs)})


def _all_commands() -> list[str]:
    """Each once, in the order of the pages; a page's sentences come after its blocks."""
    found = [[*pages.commands_in(_text(page)), *_commands_in_sentences(page)] for page in _PAGES]
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Iterator[Path]:
    """The project as cloned, after `make restore` and `make test` have set up `.venv`."""
    folder = tmp_path_factory.mktemp("readme") / "clone"
    made_here = (".git", ".venv", "runs", "output", "weights", ".cog", "build", "dist")
    shutil.copytree(
        ROOT,
        folder,
        ignore=lambda parent, names: [
            name
            for name in names
            if name == "__pycache__" or (Path(parent) == ROOT and name in made_here)
        ],
    )
    _make_environment(folder / ".venv")
    with Image.open(PORTRAIT) as portrait:
        # Large enough to train on, where that is what the folder is for.
        for name, side_px in (
            ("photo.jpg", 256),
            ("holiday/a.jpg", 128),
            ("holiday/may/b.jpg", 128),
            ("photos/a.jpg", 800),
            ("FACES/a.jpg", 256),
            ("FACES/b.jpg", 256),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            portrait.resize((side_px, side_px)).save(folder / name)
    (folder / "FILE").write_text(_CONFIGURATION, encoding="utf-8")
    # What the training, which needs a download, would have written.
    shutil.copy(tiny_weights, folder / "own.safetensors")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(clone: Path) -> Iterator[None]:
    """What `make serve` starts, until the tests are done."""
    with socket.socket() as port:
        if port.connect_ex(("127.0.0.1", 5000)) == 0:
            pytest.skip("port 5000 is taken on this machine")
    script = f"{_ACTIVATE} && make serve"
    process = subprocess.Popen(["bash", "-c", script], cwd=clone, start_new_session=True)
    deadline = time.monotonic() + HANG_S
    try:
        while _health() != "READY":
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield
    finally:  # else it outlives the tests, and keeps the port
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(HANG_S)


def _health() -> str:
    try:
        return str(httpx.get("http://127.0.0.1:5000/health-check").json()["status"])
    except httpx.TransportError:
        return "AWAY"


def _make_environment(folder: Path) -> None:
    """The environment that runs the tests, in the place where make looks for it."""
    if not (Path(sys.prefix) / "bin" / "activate").is_file():
        command = [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip"]
        subprocess.run([*command, str(folder)], check=True)
    else:
        folder.mkdir()
        for entry in Path(sys.prefix).iterdir():
            (folder / entry.name).symlink_to(entry)
    for mark in (".runtime", ".development"):
        (folder / mark).unlink(missing_ok=True)
        (folder / mark).touch()


def test_the_readme_activates_the_environment_before_it_is_needed() -> None:
    commands = pages.commands_in(_text("README.md"))
    before = commands[: commands.index(_ACTIVATE)]
    assert before == ["make restore IMG=photo.jpg", "make test"]
    assert commands.count(_ACTIVATE) == 1


@pytest.mark.parametrize("command", _all_commands())
def test_the_command_works_as_it_stands(
    command: str, clone: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    for start, reason in _LEFT_OUT.items():
        if command.startswith(start):
            pytest.skip(f"not tried: {command!r}: {reason}")
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    # Without the environment's programs, until the reader activates it.
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    if command == "make serve" or "examples/http_client.py" in command:
        request.getfixturevalue("server")
        if command == "make serve":
            return
    commands = pages.commands_in(_text("README.md"))
    before = commands[: commands.index(_ACTIVATE) + 1]
    is_active = command not in before
    script = f"{_ACTIVATE} && {command}" if is_active else command
    result = subprocess.run(
        ["bash", "-c", script], cwd=clone, capture_output=True, text=True, check=False
    )
    if command.startswith(_NEEDS_A_DOWNLOAD):
        assert result.returncode == 1
        assert "GFPGAN_OFFLINE forbids the download" in result.stderr
        assert "Traceback" not in result.stderr
    else:
        assert result.returncode == 0, result.stdout + result.stderr


def test_the_table_of_options_is_the_parsers(capsys: pytest.CaptureFixture[str]) -> None:
    page = _text("docs/command_line.md")
    rows = re.findall(r"^\| (`--[^|]*) \|", page, re.MULTILINE)
    documented = {option for row in rows for option in re.findall(r"--[a-z-]+", row)}
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    printed = capsys.readouterr().out
    assert documented == set(re.findall(r"^  (--[a-z-]+)", printed, re.MULTILINE))
    choices = re.findall(r"^  (--[a-z-]+) \{([^}]*)\}", printed, re.MULTILINE)
    assert {option for option, _ in choices} >= {"--detector", "--mask", "--backend", "--format"}
    for option, names in choices:
        (row,) = re.findall(rf"^\| `{option}` .*", page, re.MULTILINE)
        assert all(f"`{name.strip()}`" in row for name in names.split(",")), row
    shown = re.findall(r"^\| `(--[a-z-]+)` \|.*\| ([^|]*) \|$", _text("README.md"), re.MULTILINE)
    assert len(shown) == 6
    for option, default in shown:  # the same as in the whole table
        assert re.search(rf"^\| `{option}` \|.*\| {re.escape(default)} \|$", page, re.MULTILINE)


def test_the_python_example_works_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Image.open(PORTRAIT) as portrait:
        portrait.resize((128, 128)).save("photo.jpg")
    (code,) = pages.blocks_in(_text("README.md"), "python")
    exec(compile(code, "README.md", "exec"), {})
    with Image.open("restored.png") as restored:
        assert restored.size == (256, 256)


def test_the_readme_lists_every_page() -> None:
    listed = set(re.findall(r"\(docs/([^)#]+\.md)", _text("README.md")))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_links_lead_to_files_and_headings() -> None:
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    paths += [*(ROOT / "gfpgan_core").rglob("*.md"), *(ROOT / "integrations").rglob("*.md")]
    for page in paths:
        text = pages.without_blocks(page.read_text(encoding="utf-8"))
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, heading = link.partition("#")
            if "://" in path:
                continue
            target = (page.parent / path) if path else page
            assert target.exists(), (page.name, link)
            if heading:
                assert heading in _anchors(target), (page.name, link)


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
