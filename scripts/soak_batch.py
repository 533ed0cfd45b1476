"""Restore a manifest of thousands of photos while its processes are killed, and check every result.

    python -m scripts.soak_batch [--photos 10000] [--hostile 200] [--killers 5] [--ray]

Photos are small, aligned faces (the sample portrait's, shifted and made noisy); hostile files begin
as pictures and are none; a killer ends the process that opens it, as a decoder's crash does. Every
few seconds, at random, one of the processes that restore gets SIGKILL, three times the command
itself, which is then started again. A plain `gfpgan restore` of the good photos says what the bytes
must be.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gfpgan_core.batch.packages import require
from gfpgan_core.batch.rows import SUCCESS, Row
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_safetensors
from scripts.process_memory import process_memory_mib

_ROOT = Path(__file__).parent.parent
_SIDE_PX = 64
_ENDS = 3  # of the command itself

# Found by Python in each process of the batch.
_KILLER_HOOK = """
import os, signal, sys
def end(event, arguments):
    if event == "open" and "killer" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(end)
"""


def make_photos(folder: Path, photos: int, hostile: int, killers: int) -> None:
    """Write so many good photos, hostile files and killers; the same for the same numbers."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    portrait = np.asarray(
        Image.open(_ROOT / "assets" / "sample.jpg").convert("RGB").resize((96, 96))
    )
    for number in range(photos - hostile):
        name = f"killer_{number}.png" if number < killers else f"{number}.png"
        top, left = rng.integers(0, 96 - _SIDE_PX, 2)
        crop = portrait[top : top + _SIDE_PX, left : left + _SIDE_PX].astype(np.int16)
        noisy = np.clip(crop + rng.normal(0, 12, crop.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / name, compress_level=1)
    good = (folder / f"{killers}.png").read_bytes()
    for number in range(hostile):
        kind, noise = number % 4, rng.bytes(200)
        cut = int(rng.integers(20, len(good) // 2))
        data = (
            good[:cut],
            good[:60] + noise,
            good[:16] + (60000).to_bytes(4, "big") * 2 + good[24:],
            b"\xff\xd8\xff\xe0" + noise,
        )[kind]
        (folder / f"hostile_{number}.png").write_bytes(data)


def save_network(path: Path) -> None:
    """Write a small random network, of the photos' size."""
    torch.manual_seed(0)
    config = GeneratorConfig(_SIDE_PX, 1, 0.125, 64, residual=True)
    save_safetensors(GFPGAN(config), path)


def expected_bytes(photos: Path, weights: Path, folder: Path) -> dict[str, str]:
    """Return the sha256 of each good photo's result, by the plain command on one thread."""
    output = folder / "plain"
    command = ["restore", str(photos), "--output", str(output), "--weights", str(weights)]
    command += ["--aligned", "--format", "png"]
    subprocess.run(
        [sys.executable, "-m", "gfpgan_core", *command],
        cwd=_ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,  # 1: the hostile ones failed
    )
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in output.glob("*.png")}


class Killer(threading.Thread):
    """Sends SIGKILL to a batch's processes, one at a time; notes how much memory they take."""

    def __init__(self, every_s: float, mark: str) -> None:
        super().__init__(daemon=True)
        self._every_s = every_s
        self._mark = mark
        self._random = random.Random(0)
        self.done = threading.Event()
        self.kills = 0
        self.memory_mib: list[tuple[float, dict[str, float]]] = []
        """Seconds since 1970, and the largest process of each kind."""

    def run(self) -> None:
        """Kill and measure until `done` is set."""
        while not self.done.wait(self._random.uniform(0.5, 1.5) * self._every_s):
            found = self.processes()
            largest: dict[str, float] = collections.defaultdict(float)
            for pid, kind in found:
                largest[kind] = max(largest[kind], process_memory_mib(pid))
            self.memory_mib.append((time.time(), dict(largest)))
            children = [pid for pid, kind in found if kind == "restores"]
            if children:
                self.kills += _kill(self._random.choice(children))

    def processes(self) -> list[tuple[int, str]]:
        """Return the processes that belong to the batch, and what each does."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if self._mark.encode() not in environment:
                continue
            if "gfpgan_core.batch.child" in line:
                found.append((int(folder.name), "restores"))
            elif "ShardActor" in line or "MapWorker" in line:
                found.append((int(folder.name), "watches on Ray"))
            elif "gfpgan_core\0batch" in line:
                found.append((int(folder.name), "command"))
        return found


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def run_batch(command: list[str], folder: Path, results: int, every_s: float) -> Killer:
    """Run the command to its end while processes are killed; kill it itself three times."""
    hook = folder / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(_KILLER_HOOK)
    environment = os.environ | {"PYTHONPATH": str(hook), "SOAK_BATCH": str(folder)}
    output = Path(command[command.index("--output") + 1])
    log = folder / "log.txt"
    killer = Killer(every_s, f"SOAK_BATCH={folder}")
    killer.start()
    for number in range(_ENDS + 1):
        with log.open("w") as said:
            process = subprocess.Popen(
                command, cwd=_ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said
            )
        goal = results * (number + 1) // (_ENDS + 1)
        while process.poll() is None:
            time.sleep(1)
            if number < _ENDS and sum(1 for _ in output.glob("*/*/*.png")) >= goal:
                process.kill()
        print(f"  start {number + 1} ended with status {process.wait()}", flush=True)
        if process.returncode > 0:
            print(f"    {log.read_text(errors='replace')[-300:].strip()}")
    killer.done.set()
    killer.join()
    return killer


def faults_of(output: Path, photos: Path, expected: dict[str, str]) -> list[str]:
    """Return what is wrong with the rows and the results."""
    (run,) = [path for path in output.iterdir() if path.is_dir()]
    rows: list[tuple[Path, Row]] = []
    for file in sorted(run.glob("*/rows.parquet")):
        table = require("pyarrow.parquet").read_table(file)
        rows += [(file.parent, Row(**values)) for values in table.to_pylist()]
    faults = []
    names = collections.Counter(Path(row.uri).name for _, row in rows)
    wanted = {path.name for path in photos.iterdir()}
    if set(names) != wanted or set(names.values()) != {1}:
        twice = [name for name, count in names.items() if count > 1]
        faults.append(f"missing {sorted(wanted - set(names))[:5]}, twice {twice[:5]}")
    for folder, row in rows:
        name = Path(row.uri).name
        kind = name.split("_")[0] if "_" in name else "good"
        status = {"good": "restored", "hostile": "failed", "killer": "poison"}[kind]
        if row.status != status:
            faults.append(f"{name} is {row.status}: {row.error[:100]}")
        elif kind == "good":
            found = hashlib.sha256((folder / row.output).read_bytes()).hexdigest()
            if not found == row.sha256 == expected[name]:
                faults.append(f"{name} has other bytes")
    unfinished = [path.name for path in run.glob("[0-9]*") if not (path / SUCCESS).exists()]
    if unfinished:
        faults.append(f"not marked as done: {unfinished[:5]}")
    files = set(run.rglob("*.png"))
    files -= {folder / row.output for folder, row in rows if row.output}
    left = [*files, *run.rglob("*.partial*"), *run.rglob(".fetched_*"), *run.rglob("rows.jsonl")]
    if left:
        faults.append(f"left behind: {[path.name for path in left][:5]}")
    attempts = sum(row.attempts for _, row in rows)
    statuses = collections.Counter(row.status for _, row in rows)
    print(f"  {len(rows)} rows: {dict(statuses)}; {attempts} attempts", flush=True)
    return faults


def make_batch(photos: Path, weights: Path, folder: Path, shards: int) -> list[str]:
    """Write the photos' manifest into the folder; return the command that restores it there.

    The command has two workers, and writes to `folder / "output"`.
    """
    python = [sys.executable, "-m", "gfpgan_core", "batch"]
    manifest, output = str(folder / "manifest.parquet"), str(folder / "output")
    made = [*python, "manifest", str(photos), "--output", manifest, "--shards", str(shards)]
    subprocess.run(made, cwd=_ROOT, check=True)
    command = [*python, "run", manifest, "--output", output, "--weights", str(weights)]
    return [*command, "--aligned", "--format", "png", "--workers", "2"]


def report_faults(faults: list[str], folder: Path) -> int:
    """Print the first faults, remove the folder where there are none; return the exit status."""
    for fault in faults[:20]:
        print(f"FAULT: {fault}")
    print("every photo once, every byte as by the plain command" if not faults else f"see {folder}")
    if not faults:
        shutil.rmtree(folder)
    return 1 if faults else 0


def describe_memory(samples: list[tuple[float, dict[str, float]]]) -> None:
    """Print the largest process of each kind in the second and in the last quarter of the run."""
    quarter = max(1, len(samples) // 4)
    for kind in sorted({kind for _, sizes in samples for kind in sizes}):
        second, last = (
            max((sizes.get(kind, 0.0) for _, sizes in part), default=0.0)
            for part in (samples[quarter : 2 * quarter], samples[-quarter:])
        )
        print(f"  {kind}: {second:.0f} MiB in the second quarter, {last:.0f} in the last")


def main() -> int:
    """Return the exit status: 0, or 1 where a photo or a byte is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--photos", type=int, default=10000, help="of all kinds")
    parser.add_argument("--hostile", type=int, default=200)
    parser.add_argument("--killers", type=int, default=5)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--kill-every", type=float, default=10.0, help="seconds, mean")
    parser.add_argument("--ray", action="store_true", help="on Ray, not on local workers")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak_batch_"))
    photos, weights = folder / "photos", folder / "tiny.safetensors"
    make_photos(photos, options.photos, options.hostile, options.killers)
    save_network(weights)
    expected = expected_bytes(photos, weights, folder)
    good = options.photos - options.hostile
    print(f"{options.photos} photos; the plain command restored {len(expected)}", flush=True)

    command = make_batch(photos, weights, folder, options.shards) + ["--ray"] * options.ray
    started = time.monotonic()
    killer = run_batch(command, folder, good - options.killers, options.kill_every)
    print(f"  {time.monotonic() - started:.0f} s, {killer.kills} processes killed", flush=True)
    faults = faults_of(folder / "output", photos, expected)
    describe_memory(killer.memory_mib)
    return report_faults(faults, folder)


if __name__ == "__main__":
    sys.exit(main())
