"""Set a process up: cores, threads and memory; choose its device and precision."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gfpgan_core.errors import InputError

if TYPE_CHECKING:
    import torch

_CGROUP = Path("/sys/fs/cgroup")


def configure_process() -> None:
    """Set this process up: no telemetry, threads within its cores, freed memory kept.

    The command line, the server and training call it first, before they import torch; the library
    doesn't, as it may share its process with other code. A smaller `OMP_NUM_THREADS` is kept:
    torchrun and accelerate set it to give each of their processes its share.
    """
    switch_off_telemetry()
    # OpenMP's threads sleep while they wait. Spinning is faster on idle cores (`compact`: 0.08
    # instead of 0.11 s a face), but beside one busy process it takes 3 times as long, at worst 5
    # times (docs/performance.md). Read when torch is imported; whoever sets it has the last word.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    keep_freed_memory()
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    cores = allowed_cores()
    torch.set_num_threads(min(int(wanted), cores) if wanted.isdigit() and int(wanted) else cores)


def switch_off_telemetry() -> None:
    """Switch off the telemetry of onnxruntime and OpenVINO; call it before importing them.

    onnxruntime 1.32 would keep a device id in the home folder and a session file in the temporary
    folder, and send events from both; OpenVINO's Python tools send events through the package
    `openvino_telemetry`, and do without where it can't be imported. What the caller has imported
    before stays as the caller set it.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def allowed_cores(cgroup: Path = _CGROUP) -> int:
    """Return the cores that the affinity or the container's quota leaves, whichever are fewer.

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
    """Return the quota in cores; a huge number where there is none."""
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


# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_DEFAULT_MMAP_MAX = 65536  # glibc's own

_keeping = False  # whether `keep_freed_memory` was called in this process, and worked


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next allocation; return whether it does.

    By default each block of 32 MB and more is mapped anew, and the kernel clears it page by page:
    a third of a network's time on the CPU, where every layer's output is such a block. The price is
    up to 2 GB of unused memory that the process keeps: for programs, not for the library.
    """
    global _keeping
    libc = _glibc()
    if libc is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
    _keeping = all(libc.mallopt(name, value) == 1 for name, value in settings.items())
    return _keeping


def keeps_freed_memory() -> bool:
    """Return whether `keep_freed_memory` works in this process."""
    return _keeping


@contextmanager
def returning_freed_memory() -> Iterator[None]:
    """Let freed blocks go back to the system within the context, even if this process keeps them.

    For networks whose layers differ in size by a few rows: kept blocks then fit no other layer,
    and add up.
    """
    libc = _glibc() if _keeping else None
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_MAX, _DEFAULT_MMAP_MAX)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_MAX, 0)


def release_freed_memory() -> None:
    """Give what is kept and not used back to the system, once."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None  # musl has no mallopt


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error of Python, torch or OpenCV says that memory ran out.

    Told by the texts: torch's CPU allocator and OpenCV have no exception type for it.
    """
    text = str(error).lower()
    causes = ("out of memory", "allocate memory", "not enough memory", "insufficient memory")
    return isinstance(error, MemoryError) or any(cause in text for cause in causes)


def best_device() -> str:
    """Return `cuda` where there is one, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(device: str | None) -> str:
    """Return the device named, or the best one.

    Raises:
        InputError: there is no such device here.
    """
    import torch

    if device is None:
        return best_device()
    try:
        torch.ones(1, device=device).item()  # `meta` has sizes, and no values
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} can't be used ({reason}); try cpu") from error
    return device


def inference_dtype(device: str) -> torch.dtype:
    """Return float16 where the GPU computes in it quickly (capability 7 and up), else float32.

    Not bfloat16: its 8 bits of mantissa are seen in smooth skin, and values that are too large for
    float16 are met by the second run in float32.
    """
    import torch

    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
