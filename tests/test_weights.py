"""Downloads against a real local HTTP server that misbehaves, and checkpoints of every kind."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import math
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, random_network
from safetensors.torch import save_file

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.download import cache_folder, fetch
from gfpgan_core.weights.load import config_of, load, load_file
from gfpgan_core.weights.releases import RELEASES, WeightFile, all_files

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class FileServer:
    """Serves CONTENT; `answers` says how each request, in turn, is treated."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.requests = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                answer = outer.answers.pop(0) if outer.answers else "good"
                if answer == "missing":
                    self.send_error(404)
                    return
                body = CONTENT[::-1] if answer == "wrong" else CONTENT
                body = body[:1000] if answer == "short" else body
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                # "dies": the connection breaks in the middle of the body
                self.wfile.write(body[: len(body) // 2] if answer == "dies" else body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/model.pth"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def file(self) -> WeightFile:
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        return WeightFile("model.pth", self.url, len(CONTENT), sha256, "MIT")


@pytest.fixture
def server() -> Iterator[FileServer]:
    server = FileServer()
    yield server
    server.server.shutdown()


def _left_in_cache() -> list[str]:
    return sorted(p.name for p in cache_folder().iterdir() if not p.name.endswith(".lock"))


def test_a_good_file_is_fetched_once(server: FileServer) -> None:
    path = fetch(server.file, progress=False)
    assert path.read_bytes() == CONTENT
    assert fetch(server.file, progress=False) == path
    assert server.requests == 1
    assert _left_in_cache() == ["model.pth"]


@pytest.mark.parametrize("answer", ["short", "wrong", "dies", "missing"])
def test_a_bad_download_is_retried_then_refused_and_leaves_nothing(
    server: FileServer, answer: str
) -> None:
    server.answers = [answer] * 3
    with pytest.raises(WeightsError, match="3 attempts failed") as caught:
        fetch(server.file, progress=False)
    for part in ("model.pth", "1 MB", server.url, str(cache_folder()), "compact"):
        assert part in str(caught.value)
    assert server.requests == 3
    assert _left_in_cache() == []


def test_a_server_that_dies_midway_is_asked_again(server: FileServer) -> None:
    server.answers = ["dies", "good"]
    assert fetch(server.file, progress=False).read_bytes() == CONTENT
    assert server.requests == 2


def test_no_network_says_where_the_file_comes_from() -> None:
    file = WeightFile("model.pth", "http://127.0.0.1:9/model.pth", 5_000_000, "0" * 64, "MIT")
    with pytest.raises(WeightsError, match=r"5 MB.*127\.0\.0\.1:9/model.pth") as caught:
        fetch(file, progress=False)
    assert "--version compact" in str(caught.value)


def test_offline_forbids_the_download(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    with pytest.raises(WeightsError, match="GFPGAN_OFFLINE"):
        fetch(server.file)
    assert server.requests == 0
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pth").write_bytes(CONTENT)
    assert fetch(server.file).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "text"), [(CONTENT[:-1], "1,048,575 bytes"), (CONTENT[::-1], "has sha256")]
)
def test_a_file_put_in_place_by_hand_is_verified(
    server: FileServer, content: bytes, text: str
) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "model.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=text):
        fetch(server.file)


def test_two_processes_at_once_download_once(server: FileServer, tmp_path: Path) -> None:
    script = (
        "import sys; from gfpgan_core.weights.releases import WeightFile;"
        "from gfpgan_core.weights.download import fetch;"
        "f = WeightFile('model.pth', sys.argv[1], int(sys.argv[2]), sys.argv[3], 'MIT');"
        "print(fetch(f, progress=False))"
    )
    file = server.file
    command = [sys.executable, "-c", script, file.url, str(file.bytes), file.sha256]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    paths = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert paths == {str(cache_folder() / "model.pth")}
    assert server.requests == 1


def test_every_release_names_a_whole_sha256_and_a_size() -> None:
    for file in all_files():
        assert len(file.sha256) == 64 and int(file.sha256, 16) > 0
        assert file.bytes is None or file.bytes > 1e6
        assert file.url.startswith("https://github.com/") and file.url.endswith("/" + file.name)


def _prefixed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"module.{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"params_ema": state, "params": {}},
        lambda state: {"params": state},
        lambda state: state,
        _prefixed,
    ],
    ids=["params_ema", "params", "bare", "module-prefix"],
)
def test_pickled_weights_load_whatever_their_wrapping(
    wrap: Callable[[dict[str, torch.Tensor]], object], tmp_path: Path
) -> None:
    network = random_network(1, TINY)
    torch.save(wrap(network.state_dict()), tmp_path / "own.pth")
    loaded = load_file(tmp_path / "own.pth")
    assert loaded.config == TINY  # read off the shapes; `residual` can't be
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in loaded.state_dict().items())


def test_safetensors_carry_their_configuration(tmp_path: Path) -> None:
    network = random_network(1)
    save_safetensors(network, tmp_path / "own.safetensors")
    loaded = load_file(tmp_path / "own.safetensors")
    assert loaded.config == network.config == dataclasses.replace(TINY, residual=True)
    lq = torch.rand(1, 3, 64, 64)
    assert torch.allclose(loaded(lq)[0], network(lq)[0], atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [TINY, GeneratorConfig(256, 2, 0.25, 32, 0), GeneratorConfig(32, 1, 0.5, 16, 3)],
    ids=["64", "256-wide", "32"],
)
def test_the_configuration_is_read_off_the_shapes(config: GeneratorConfig) -> None:
    with torch.device("meta"):
        state = GFPGAN(config).state_dict()
    assert config_of(state, Path("x")) == config


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of a stranger",)


def test_pickled_code_isnt_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"params": _Evil()}))
    torch.save({"params": _Evil()}, tmp_path / "evil2.pth")
    for name in ("evil.pth", "evil2.pth"):
        with pytest.raises(WeightsError, match="can't be read"):
            load_file(tmp_path / name)
    assert "stranger" not in capsys.readouterr().out


def test_weights_that_dont_fit_are_refused(tmp_path: Path) -> None:
    state = random_network(1).state_dict()
    state.pop("final_linear.bias")
    save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match=r"(?s)doesn't fit GFPGAN.*final_linear\.bias"):
        load_file(tmp_path / "short.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="no GFPGAN generator"):
        load_file(tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "short.safetensors").read_bytes()[:500])
    with pytest.raises(WeightsError, match="can't be read"):
        load_file(tmp_path / "cut.safetensors")


def test_weights_that_arent_finite_are_refused(tmp_path: Path) -> None:
    state = random_network(1, TINY).state_dict()
    state["final_conv.bias"][0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match=r"not finite in final_conv\.bias"):
        load_file(tmp_path / "nan.pth")


def test_unknown_version_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'v9'; allowed: v1, v1\.2"):
        load("v9")


def test_compact_ships_with_the_package_and_is_small() -> None:
    network = load("compact")
    assert network.config == RELEASES["compact"].config
    path = ROOT / "gfpgan_core" / "shipped" / "compact.safetensors"
    assert path.stat().st_size <= 40e6


@pytest.mark.skipif(torch.__version__ < "2.7", reason="2.6 imports one for any tensor on meta")
def test_loading_needs_no_compiler() -> None:
    """Initial values computed on `meta` import one, with sympy: a second and 140 MB."""
    code = (
        "import sys; from gfpgan_core.weights.load import load; load('compact');"
        " print([name for name in ('sympy', 'torch._dynamo') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    network = random_network(0)
    network.final_conv.weight.data[0, 0, 1, 1] = value
    save_safetensors(network, tmp_path / "broken.safetensors")
    with pytest.raises(WeightsError, match=r"not finite in final_conv\.weight"):
        load_file(tmp_path / "broken.safetensors")
