"""How many processor cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def allowed_cores(cgroup: Path = _CGROUP) -> int:
    """Those that its affinity and its container's quota leave it, whichever are fewer.

    Torch knows the affinity only: in a container with a quota of 2 on a machine of 64 cores it
    starts 64 threads, which then wait for each other. Quotas are read from `cgroup` (version 2's
    `cpu.max`, version 1's `cpu/cpu.cfs_quota_us`).
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min(cores, math.ceil(_quota(cgroup))))


def _quota(cgroup: Path) -> float:
    """In cores; a huge number where there is none."""
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii")
                for name in ("quota", "period")
            )
        cores = float(quota) / float(period)
    except (OSError, ValueError):  # "max" is no number
        return 1e6
    return cores if cores > 0 else 1e6  # version 1 says -1
