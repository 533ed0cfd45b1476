"""Restore a manifest on a Ray cluster of two nodes, one of which dies, and check every result.

    python -m scripts.soak_ray_nodes [--photos 600] [--end kill|unplug]

The nodes are two network namespaces of this machine, joined by a virtual cable: this needs root and
`ip` (Debian: iproute2). Once a third of the results are there, the second node dies. `kill` ends
all of its processes at once, as a power cut does; `unplug` takes its cable away, and its processes
go on for as long as they can. Photos and checks are those of `scripts.soak_batch`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.soak_batch import (
    expected_bytes,
    faults_of,
    make_batch,
    make_photos,
    report_faults,
    save_network,
)

_ROOT = Path(__file__).parent.parent
_NODES = ("gfpgan-a", "gfpgan-b")
_ADDRESSES = ("10.98.0.1", "10.98.0.2")
_PORT = 6399
_SHARDS = 12


def _ip(*arguments: str) -> str:
    command = ["/usr/sbin/ip", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def two_nodes() -> Iterator[None]:
    """Two network namespaces that reach each other; at the end all of their processes end."""
    for node in _NODES:
        _ip("netns", "add", node)
    try:
        _ip("link", "add", "cable-a", "type", "veth", "peer", "name", "cable-b")
        for node, address, cable in zip(_NODES, _ADDRESSES, ("cable-a", "cable-b"), strict=True):
            _ip("link", "set", cable, "netns", node)
            _ip("-n", node, "addr", "add", f"{address}/24", "dev", cable)
            _ip("-n", node, "link", "set", cable, "up")
            _ip("-n", node, "link", "set", "lo", "up")
        yield
    finally:
        for node in _NODES:
            kill_all(node)
            _ip("netns", "del", node)


def kill_all(node: str) -> int:
    """Send SIGKILL to all processes of a node; return how many they were."""
    pids = [int(pid) for pid in _ip("netns", "pids", node).split()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def _inside(node: str, *command: str) -> list[str]:
    return ["/usr/sbin/ip", "netns", "exec", node, *command]


def _start_ray(node: str, address: str, temporary: Path, log: Path) -> None:
    ray = str(Path(sys.executable).with_name("ray"))
    head = [f"--address={_ADDRESSES[0]}:{_PORT}"]
    if node == _NODES[0]:
        head = ["--head", f"--port={_PORT}", "--include-dashboard=false"]
        head.append(f"--temp-dir={temporary}")
    options = [f"--node-ip-address={address}", "--num-cpus=1", "--disable-usage-stats", *head]
    with log.open("a") as said:
        subprocess.run(
            _inside(node, ray, "start", *options), check=True, stdout=said, stderr=subprocess.STDOUT
        )


def _run(command: list[str], output: Path, results: int, end: str, log: Path) -> int:
    """Run the command on the first node; end the second at a third of the results."""
    with log.open("a") as said:
        process = subprocess.Popen(
            _inside(_NODES[0], *command), cwd=_ROOT, stdout=said, stderr=subprocess.STDOUT
        )
        started, is_dead = time.monotonic(), False
        while process.poll() is None:
            time.sleep(0.5)
            done = sum(1 for _ in output.glob("*/*/*.png"))
            if done >= results // 3 and not is_dead:
                is_dead = True
                at = time.monotonic() - started
                if end == "kill":
                    print(f"  {at:.0f} s: {done} results; {kill_all(_NODES[1])} processes killed")
                else:
                    _ip("-n", _NODES[1], "link", "set", "cable-b", "down")
                    print(f"  {at:.0f} s: {done} results; the cable is gone", flush=True)
    print(f"  {time.monotonic() - started:.0f} s: ended with status {process.returncode}")
    return process.returncode if is_dead else -1


def main() -> int:
    """Return the exit status: 0, or 1 where a photo or a byte is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--end", choices=("kill", "unplug"), default="kill")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ray_"))  # short: sockets lie below it
    photos, weights = folder / "photos", folder / "tiny.safetensors"
    hostile = options.photos // 50
    make_photos(photos, options.photos, hostile, killers=0)
    save_network(weights)
    expected = expected_bytes(photos, weights, folder)
    command = make_batch(photos, weights, folder, _SHARDS)
    command += ["--ray", "--address", f"{_ADDRESSES[0]}:{_PORT}"]
    output, log = folder / "output", folder / "log.txt"
    # A cluster that others could reach takes no call without its token.
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with two_nodes():
        for node, address in zip(_NODES, _ADDRESSES, strict=True):
            _start_ray(node, address, folder / "ray", log)
        status = _run(command, output, options.photos - hostile, options.end, log)
    faults = faults_of(output, photos, expected)
    if status < 0:
        faults.append("it ended before the node did")
    elif status:
        faults.append(f"status {status}, not 0")
    return report_faults(faults, folder)


if __name__ == "__main__":
    sys.exit(main())
