from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SAMPLE

from gfpgan_core.cores import allowed_cores


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
