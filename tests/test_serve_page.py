"""`gfpgan serve-page`: a photo through the page in a browser, and what the server refuses."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from browser import Opener, Tab, chromium
from conftest import HANG_S, PORTRAIT, ROOT, png_header
from PIL import Image
from skimage import data

from gfpgan_core.__main__ import main

__all__ = ["chromium"]

MAX_BYTES = 2_000_000

# The hook sees every connection and every look-up of a name, but for those to this machine.
_PROGRAM = f"""
import socket, sys
def guard(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        target = arguments[-1]
    elif event == "socket.getaddrinfo":
        target = arguments[0]
    else:
        return
    host = target[0] if isinstance(target, tuple) else target
    if host not in ("127.0.0.1", "localhost", "::1", None):
        print("network:", event, target, flush=True)
sys.addaudithook(guard)
try:
    socket.getaddrinfo("control.invalid", 80)
except OSError:
    pass
from gfpgan_core.cli import serve_page
serve_page.MAX_PHOTO_BYTES = {MAX_BYTES}
from gfpgan_core.__main__ import main
sys.exit(main(["serve-page", "--port", "0", "--device", "cpu"]))
"""


@dataclasses.dataclass(frozen=True)
class Server:
    """The page's server, in a process of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    folder: Path
    """Its temporary files."""


def _start(folder: Path) -> Server:
    for name in ("home", "temporary"):
        (folder / name).mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GRADIO_", "HF_"))}
    environment |= {"HOME": str(folder / "home"), "TMPDIR": str(folder / "temporary")}
    environment |= {"GFPGAN_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"GFPGAN_WEIGHTS_DIR": str(folder / "weights")}
    log = folder / "log"
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        env=environment,
        stdout=log.open("wb"),
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + HANG_S
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return Server(process, found[0], log, folder / "temporary")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server; what it sent to others while the tests ran is looked at when they are done."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs Gradio: `pip install gradio`")
    server = _start(tmp_path_factory.mktemp("page"))
    yield server
    server.process.terminate()
    assert server.process.wait(HANG_S) == 128 + signal.SIGTERM
    seen = [line for line in server.log.read_text().splitlines() if line.startswith("network:")]
    assert seen == ["network: socket.getaddrinfo control.invalid"]
    assert list(server.folder.iterdir()) == []  # no photo is left


def _send(tab: Tab, server: Server, photo: Path) -> None:
    """Open the page, give it a photo, and press the button."""
    tab.open(server.url)
    tab.wait_for("!!document.querySelector('#photo input[type=file]')")
    tab.choose_files("#photo input[type=file]", photo)
    tab.wait_for("!!document.querySelector('#photo a[download]')")  # it has arrived
    tab.value("document.querySelector('#restore').click()")


def _result(tab: Tab) -> tuple[str, Image.Image]:
    """Wait for the result; return what is said of it, and the file behind the link."""
    tab.to_front()
    tab.wait_for("!!document.querySelector('#result a[download]')")
    tab.wait_for(
        "[...document.querySelectorAll('#slider img')].filter(i => i.naturalWidth).length == 2"
    )
    link = tab.value("document.querySelector('#result a[download]').href")
    said = tab.value("document.querySelector('#said').innerText")
    return str(said), Image.open(io.BytesIO(httpx.get(link).content))


def test_a_photo_is_restored_in_the_browser(
    server: Server, chromium: Opener, tmp_path: Path
) -> None:
    photo = tmp_path / "astronaut.png"
    Image.fromarray(data.astronaut()[:256, 96:352]).save(photo)
    tab = chromium(1280, 1000)
    _send(tab, server, photo)
    said, result = _result(tab)
    assert "1 face" in said and "512 x 512 px" in said
    assert result.size == (512, 512) and result.format == "PNG"
    enlarged = Image.open(photo).resize((512, 512), Image.Resampling.LANCZOS)
    change = np.abs(np.asarray(result, int) - np.asarray(enlarged, int)).mean(axis=2)
    assert change[-40:].mean() < 1 < change.max()  # the face and nothing else is another
    tab.wait_for("document.querySelectorAll('#faces .pair').length == 1")
    assert "face 1: box" in tab.value("document.querySelector('#faces').innerText")
    assert {url.startswith((server.url, "about:")) for url in tab.requests()} == {True}
    assert not tab.complaints()


def test_the_slider_moves_by_mouse_and_keyboard_and_faces_are_marked(
    server: Server, chromium: Opener, tmp_path: Path
) -> None:
    Image.fromarray(data.astronaut()[:256, 96:352]).resize((128, 128)).save(tmp_path / "small.png")
    tab = chromium(1280, 1000)
    _send(tab, server, tmp_path / "small.png")
    _result(tab)
    pair = "document.querySelector('#slider .pair')"
    box = f"(b => [b.x, b.y, b.width, b.height])({pair}.getBoundingClientRect())"
    left, top, width, height = tab.value(box)
    tab.drag((left + width / 2, top + height / 2), (left + width * 0.8, top + height / 2))
    at = int(tab.value(f"{pair}.querySelector('input').value"))
    assert abs(at - 80) <= 1
    tab.key("ArrowLeft")  # it has the focus
    assert tab.value(f"{pair}.style.getPropertyValue('--at')") == f"{at - 1}%"
    tab.key("Home")
    after = f"getComputedStyle({pair}.querySelector('.after')).clipPath"
    assert tab.value(after) == "inset(0px 0px 0px 0%)"  # nothing is cut off: the result alone

    drawn = f"getComputedStyle({pair}.querySelector('.drawn')).display"
    assert tab.value(drawn) == "none"
    tab.value("document.querySelector('#slider .marks input').click()")
    assert tab.value(drawn) == "block"
    eyes = tab.value(
        f"[...{pair}.querySelectorAll('circle')].slice(0, 2).map(c => [c.cx, c.cy].map("
        "length => length.baseVal.value))"
    )
    np.testing.assert_allclose(eyes, [[53, 51], [75, 52]], atol=2.5)  # read off the photo


def test_two_users_at_once_get_their_own(server: Server, chromium: Opener, tmp_path: Path) -> None:
    tabs = []
    for name, side_px in (("first", 96), ("second", 112)):
        with Image.open(PORTRAIT) as portrait:
            portrait.resize((side_px, side_px)).save(tmp_path / f"{name}.png")
        tabs.append(chromium(1000, 900))
    for tab, name in zip(tabs, ("first", "second"), strict=True):
        _send(tab, server, tmp_path / f"{name}.png")
    for tab, name, side_px in zip(tabs, ("first", "second"), (192, 224), strict=True):
        said, result = _result(tab)
        assert f"{side_px} x {side_px} px" in said and result.size == (side_px, side_px)
        assert f"{name}_restored" in tab.value("document.querySelector('#result').innerHTML")


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"no photo", "is no image"), (png_header(60_000, 60_000), "at most 64 megapixels")],
    ids=["no image", "too large"],
)
def test_a_hostile_file_gives_our_error(
    server: Server, chromium: Opener, tmp_path: Path, content: bytes, text: str
) -> None:
    photo = tmp_path / "<img src=x onerror=alert(1)>.jpg"
    photo.write_bytes(content)
    tab = chromium(1000, 900)
    _send(tab, server, photo)
    tab.wait_for(f"document.body.innerText.includes({text!r})")
    assert tab.value("document.querySelectorAll('img[src=x]').length") == 0
    assert str(server.folder) not in tab.value("document.body.innerText")


def test_absent_weights_are_said_without_a_path(server: Server) -> None:
    (answer,) = [line for line in _asked(server, "v1.4", PORTRAIT) if "process_completed" in line]
    assert "this server can't use the weights" in answer and "choose another version" in answer
    assert str(server.folder.parent) not in answer


def _asked(server: Server, version: str, photo: Path | str) -> list[str]:
    """Send what the page would, with a path or an address in place of an upload; the answers."""
    api = f"{server.url}gradio_api"
    path = photo
    if isinstance(photo, Path):
        with photo.open("rb") as file:
            (path,) = httpx.post(f"{api}/upload", files={"files": ("a.jpg", file)}).json()
    session = os.urandom(4).hex()
    chosen = {"path": path, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [chosen, version, "auto", 1, False, "none", False], "fn_index": 0}
    httpx.post(f"{api}/queue/join", json=body | {"session_hash": session}).raise_for_status()
    answer = httpx.get(f"{api}/queue/data", params={"session_hash": session}, timeout=HANG_S)
    return answer.text.splitlines()


@pytest.mark.parametrize("host", ["example.org", "huggingface.co", "127.0.0.1"])
def test_addresses_are_not_fetched(server: Server, host: str) -> None:
    """The server's guard is looked at in the end: no name was looked up, nobody connected to."""
    answers = _asked(server, "compact", f"https://{host}/photo.jpg")
    assert not any('"success":true' in line for line in answers if "process_completed" in line)
    assert httpx.get(f"{server.url}gradio_api/file=https://{host}/photo.jpg").status_code == 403


def test_files_of_the_server_are_not_handed_out(server: Server) -> None:
    for path in (ROOT / "README.md", PORTRAIT, next(server.folder.glob("*/lock"))):
        answer = httpx.get(f"{server.url}gradio_api/file={path}")
        assert answer.status_code in (403, 404), path
    answers = _asked(server, "compact", str(PORTRAIT))
    assert not any('"success":true' in line for line in answers if "process_completed" in line)


def test_large_uploads_are_stopped(server: Server) -> None:
    url = f"{server.url}gradio_api/upload"
    for size, status in ((MAX_BYTES // 2, 200), (MAX_BYTES + 1000, 413)):
        assert httpx.post(url, files={"files": ("a.jpg", bytes(size))}).status_code == status


def test_another_name_for_this_machine_is_refused(server: Server) -> None:
    assert httpx.get(server.url, headers={"Host": "evil.example"}).status_code == 400


def test_all_files_lie_in_the_one_folder(server: Server) -> None:
    (folder,) = server.folder.iterdir()
    assert folder.name.startswith("gfpgan-requests-") and folder.stat().st_mode & 0o777 == 0o700


def test_without_gradio_the_installation_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["serve-page"]) == 1
    assert "pip install 'gradio>=6,<7'" in capsys.readouterr().err


def test_a_port_that_is_taken_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("needs Gradio: `pip install gradio`")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve-page", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another --port" in capsys.readouterr().err
