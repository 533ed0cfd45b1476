"""Checkpoints of every kind, read into networks and written."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, random_network
from faults import full_disk, need_permissions, obeying_permissions, run_code
from safetensors.torch import save_file

from gfpgan_core import bounds
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import read_state, save_safetensors
from gfpgan_core.weights.load import config_of, load, load_file
from gfpgan_core.weights.releases import RELEASES, all_files
from gfpgan_core.weights.stored import WeightsFile


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
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"step": 1}},
        lambda state: state,
        _prefixed,
    ],
    ids=["params_ema", "params", "state_dict", "bare", "module-prefix"],
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
    assert torch.allclose(loaded(lq), network(lq), atol=1e-5)


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


def _swap(path: Path, other: Path) -> None:
    other.replace(path)


def _overwrite(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("attack", [_swap, _overwrite])
def test_a_file_that_is_another_one_after_it_was_hashed_isnt_loaded(
    attack: Callable[[Path, Path], None],
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good, bad = tmp_path / f"good{suffix}", tmp_path / f"bad{suffix}"
    for path, seed in ((good, 1), (bad, 2)):
        if suffix == ".pth":
            torch.save(random_network(seed).state_dict(), path)
        else:
            save_safetensors(random_network(seed), path)
    sha256 = hashlib.sha256(good.read_bytes()).hexdigest()
    hashed = WeightsFile.sha256

    def hash_then_attack(file: WeightsFile) -> str:
        found = hashed(file)
        attack(good, bad)
        return found

    monkeypatch.setattr(WeightsFile, "sha256", hash_then_attack)
    try:
        state, _ = read_state(good, sha256)
    except WeightsError as error:
        assert attack is _overwrite and "it was changed while it was read" in str(error)
    else:
        assert attack is _swap
        expected = random_network(1).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in state.items())


def test_a_release_of_another_sha256_isnt_read(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "GFPGANv1.4.pth")
    with pytest.raises(WeightsError, match=r"its sha256 is .* and should be 00000000") as caught:
        read_state(tmp_path / "GFPGANv1.4.pth", "0" * 64)
    file = RELEASES["v1.4"].file
    assert file is not None
    assert f"GFPGANv1.4.pth has 348,632,874 bytes and comes from {file.url}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"<html>Sign in</html>", "it is a web page, saved in place of the file"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 42\n", "a file of 42 bytes: run"),
        (b"", "it is empty"),
        (bytes(999), "its download wasn't completed"),
        (b"\x1f\x8b\x08abc", "a gzip archive: unpack it first"),
    ],
)
def test_a_file_of_ones_own_that_isnt_weights_is_called_what_it_is(
    content: bytes, text: str, tmp_path: Path
) -> None:
    (tmp_path / "own.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=text):
        load_file(tmp_path / "own.pth")


def test_a_checkpoint_without_weights_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    torch.save({"optimizer": {"step": 1}, "epoch": 3}, tmp_path / "own.pth")
    with pytest.raises(WeightsError, match=r"holds more than tensors: 'optimizer' is a dictionary"):
        load_file(tmp_path / "own.pth")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull), tmp_path):
        with pytest.raises(WeightsError, match=r"no regular file|Is a directory"):
            load_file(path)


_EXPORT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from conftest import random_network
from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.checkpoint import read_state, save_safetensors
try:
    save_safetensors(random_network(2), Path(sys.argv[1]))
except WeightsError as error:
    sys.exit(str(error))
"""


def test_an_export_to_a_full_disk_leaves_the_weights_before(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_safetensors(random_network(1), path)
    before = path.read_bytes()
    result = run_code(_EXPORT, path, before=full_disk(100_000))
    assert "own.safetensors can't be written" in result.stderr
    assert "Traceback" not in result.stderr
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_kill_during_an_export_leaves_the_weights_before(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_safetensors(random_network(1), path)
    before = path.read_bytes()
    hold = "import os, time\ndef hold(*_):\n  print('held', flush=True)\n  time.sleep(9999)\n"
    command = [sys.executable, "-c", f"{hold}os.fsync = hold\n{_EXPORT}", str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        process.kill()
    assert path.read_bytes() == before
    assert load_file(path).config.face_size_px == 64


def test_an_export_to_a_read_only_folder_says_so(tmp_path: Path) -> None:
    need_permissions(tmp_path)
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o555)
    result = run_code(_EXPORT, folder / "own.safetensors", before=obeying_permissions)
    folder.chmod(0o755)
    assert "can't be written: [Errno 13] Permission denied" in result.stderr
    assert "Traceback" not in result.stderr and list(folder.iterdir()) == []


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.pth"
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(bounds.MAX_STORED_BYTES + 1)  # a hole: no disk is used
    with pytest.raises(WeightsError, match=r"has 4,294,967,297 bytes; allowed are 4,294,967,296"):
        load_file(path)
