"""Faults that tests bring upon real processes: a full disk, a folder that can't be written."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import HANG_S, ROOT

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1  # from linux/prctl.h and linux/capability.h


def full_disk(largest_file_bytes: int) -> Callable[[], None]:
    """A function for a new process: its writes fail when a file has grown to this size."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file_bytes, largest_file_bytes))

    return limit


def obeying_permissions() -> None:
    """For a new process: root may not write what its permissions forbid."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)


def need_permissions(folder: Path) -> None:
    """Skip where even `obeying_permissions` leaves a process all rights."""
    probe = folder / "probe"
    probe.mkdir(mode=0o555)
    command = [sys.executable, "-c", "import sys; open(sys.argv[1] + '/x', 'w')", str(probe)]
    result = subprocess.run(
        command, preexec_fn=obeying_permissions, capture_output=True, check=False, timeout=HANG_S
    )
    if result.returncode == 0:
        pytest.skip("this system lets the tests' user write into read-only folders")


def run_code(
    code: str, *arguments: object, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, from the project's folder."""
    return run_python("-c", code, *arguments, before=before)


def run_python(
    *arguments: object, before: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python on one thread, from the project's folder; `before` is called in the process."""
    return captured(
        [sys.executable, *map(str, arguments)],
        os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=ROOT,
        preexec_fn=before,
    )


def captured(
    command: list[str], environment: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, whatever its status; return what it said."""
    return subprocess.run(
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
        **options,
    )
