from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from conftest import ROOT, SAMPLE

from gfpgan_core import detectors
from gfpgan_core.images import ImageU8
from gfpgan_core.runtime import allowed_cores


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "9900000 100000\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_and_the_affinity_bound_the_cores(
    files: dict[str, str], quota: int | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    cores = len(os.sched_getaffinity(0))
    assert allowed_cores(tmp_path) == (cores if quota is None else quota)


def test_a_process_bound_to_one_core_uses_one_thread(tmp_path: Path) -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from gfpgan_core.__main__ import main;"
        f"main(['restore', {str(SAMPLE)!r}, '--version', 'compact', '--output', {str(tmp_path)!r},"
        " '--device', 'cpu']); import torch; print('threads', torch.get_num_threads())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.endswith("threads 1\n")


def test_a_smaller_omp_num_threads_is_kept() -> None:
    """torchrun gives each of its processes its share of the cores by it."""
    code = (
        "from gfpgan_core.runtime import configure_process; configure_process();"
        "import torch; print(torch.get_num_threads())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "1\n"


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    given: str | None, expected: str
) -> None:
    """OpenMP's runtime reads it when torch is imported: the command line sets it before."""
    code = (
        "import os, sys; import gfpgan_core.__main__; from gfpgan_core import runtime;"
        "assert 'torch' not in sys.modules; runtime.configure_process();"
        "print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    )
    environment = {name: v for name, v in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == f"{expected} True\n"


_MEMORY_CODE = """
import numpy as np
from gfpgan_core import runtime
from scripts.process_memory import process_memory_mib

def after(size_mib):
    block = np.ones(size_mib << 20, np.uint8)
    del block
    return process_memory_mib()

before = process_memory_mib()
print(runtime.keep_freed_memory(), after(100) - before, end=' ')
runtime.release_freed_memory()
print(process_memory_mib() - before, end=' ')
with runtime.returning_freed_memory():
    print(after(300) - before, end=' ')
print(after(200) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_released_and_returned() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _MEMORY_CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    works, kept, released, returned, kept_again = result.stdout.split()
    if works == "False":
        pytest.skip("this C library is not glibc")
    assert float(kept) >= 99 and float(kept_again) >= 199
    assert float(released) < 20 and float(returned) < 20


@pytest.mark.usefixtures("one_thread")
def test_the_detector_runs_on_as_many_threads_as_torch(portrait: ImageU8) -> None:
    """It had one for each core of the machine, in a container of one core too, and they spun."""
    threads = Path("/proc/self/task")
    if not threads.is_dir():
        pytest.skip("only Linux lists a process's threads")
    detectors.centerface()([portrait], 0.5)  # what the packages themselves start, they start once
    before = {path.name for path in threads.iterdir()}
    detector = detectors.centerface()
    assert [len(found) for found in detector([portrait], 0.5)] == [1]
    assert {path.name for path in threads.iterdir()} <= before


@pytest.mark.parametrize("keeps", [True, False])
def test_the_detector_has_no_pool_beside_the_memory_that_the_process_keeps(
    keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its pool keeps, no network and no encoder can use."""
    sessions: list[Any] = []
    make = onnxruntime.InferenceSession

    def listed(*given: Any, **options: Any) -> Any:
        sessions.append(make(*given, **options))
        return sessions[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", listed)
    monkeypatch.setattr(detectors, "keeps_freed_memory", lambda: keeps)
    detectors.centerface()
    (session,) = sessions
    assert session.get_session_options().enable_cpu_mem_arena is not keeps
