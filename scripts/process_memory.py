"""Memory of a process, as the kernel counts it."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Literal


def process_memory_mib(
    pid: int | None = None, what: Literal["VmRSS", "VmHWM", "VmSize"] = "VmRSS"
) -> float:
    """Return a process's memory in MiB; nan where there is no such process.

    Args:
        pid: The process; by default this one.
        what: `VmRSS`: in memory now; `VmHWM`: its peak (not getrusage's, which starts at what the
            process that started this one had); `VmSize`: addresses.
    """
    try:
        status = Path(f"/proc/{pid or os.getpid()}/status").read_text(encoding="utf-8")
    except OSError:
        return math.nan
    lines = (line.split() for line in status.splitlines() if line.startswith(f"{what}:"))
    # A process that has ended, and whose parent doesn't know it yet, has no such line.
    return next((int(line[1]) / 1024 for line in lines), math.nan)
