"""No dependency reports to its maker: no connection, no device id, no session file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANG_S, ROOT

# What a library's user does: `configure_process` is never called. The audit hook is the guard where
# strace can't run; it sees Python's sockets alone, and OpenVINO's tools report through Python.
_LIBRARY = """
import sys
def guard(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("network:", event, arguments, flush=True)
sys.addaudithook(guard)
import numpy as np
from gfpgan_core.detect import load_detector
load_detector("centerface").raw([np.zeros((64, 64, 3), np.uint8)], 0.5)
import importlib.util
if importlib.util.find_spec("openvino"):
    sys.path.insert(0, "tests")
    from conftest import TINIEST, random_network
    from gfpgan_core.backends import load_backend
    load_backend(random_network(1, TINIEST), "openvino")
    print("openvino ran")
print("onnxruntime ran")
"""

_COMMAND_LINE = """
import sys
from gfpgan_core.__main__ import main
sys.exit(main(["restore", "assets/sample_degraded.jpg", "--version", "compact", "--device", "cpu",
               "--output", sys.argv[1]]))
"""

_CONNECTS = """
import socket
try:
    socket.create_connection(("127.0.0.1", 9), 1)
except OSError:
    pass
"""


def _network_calls(trace: Path) -> list[str]:
    """The traced system calls that send: opening a socket, or binding one to ::1, sends nothing."""
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    sends = ("connect(", "sendto(", "sendmsg(", "sendmmsg(")
    return [line for line in lines if any(call in line for call in sends)]


def _run(code: str, folder: Path, *, traced: bool) -> subprocess.CompletedProcess[str]:
    """Run code in a process without a network, with home and temporary folders of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    for variable, name in (("HOME", "home"), ("TMPDIR", "temporary")):
        (folder / name).mkdir(exist_ok=True)
        environment[variable] = str(folder / name)
    environment |= {"GFPGAN_WEIGHTS_DIR": str(folder / "weights"), "OMP_NUM_THREADS": "1"}
    # OpenVINO's tools stay silent on a build server of their own accord: that would prove nothing.
    for variable in ("CI", "TF_BUILD", "JENKINS_URL"):
        environment.pop(variable, None)
    command = [sys.executable, "-c", code, str(folder / "results")]
    if traced:
        strace = [
            "strace",
            "-f",
            "--seccomp-bpf",
            "-q",
            "-e",
            "trace=network",
            "-o",
            str(folder / "trace"),
        ]
        command = ["unshare", "-rn", *strace, *command]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )


@pytest.fixture(scope="module")
def can_trace(tmp_path_factory: pytest.TempPathFactory) -> bool:
    """Whether `unshare -n` and strace run here, and see a connection that is tried."""
    if not (shutil.which("strace") and shutil.which("unshare")):
        return False
    folder = tmp_path_factory.mktemp("control")
    result = _run(_CONNECTS, folder, traced=True)
    return result.returncode == 0 and len(_network_calls(folder / "trace")) == 1


@pytest.mark.parametrize("code", [_LIBRARY, _COMMAND_LINE], ids=["library", "command-line"])
def test_nothing_is_sent_and_nothing_left_behind(
    code: str, tmp_path: Path, can_trace: bool
) -> None:
    result = _run(code, tmp_path, traced=can_trace)
    assert result.returncode == 0, result.stderr
    assert "network:" not in result.stdout
    if code == _LIBRARY:
        assert "onnxruntime ran" in result.stdout
    left = [path.relative_to(tmp_path) for path in tmp_path.rglob("*")]
    # numba and matplotlib keep caches of their own; a device id or a session is none of those.
    traces = ("microsoft", "onnxruntime", "intel", "openvino", ".ses", "deviceid")
    at_home = [path for path in left if path.parts[0] in ("home", "temporary")]
    assert [path for path in at_home if any(t in str(path).lower() for t in traces)] == []
    assert [path for path in at_home if path.parts[0] == "temporary" and len(path.parts) > 1] == []
    if not can_trace:
        pytest.skip("strace or `unshare -n` can't run here: Python's own sockets were guarded only")
    assert _network_calls(tmp_path / "trace") == []
