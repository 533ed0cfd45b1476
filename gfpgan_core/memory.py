"""How this process's memory is kept."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> bool:
    """Whether glibc now keeps freed memory for the next allocation; for the whole process.

    By default each block of 32 MB and more is mapped anew, and the kernel clears it page by page:
    a third of a network's time on the CPU, where every layer's output is such a block. For programs
    that do little else (the command line, the server, training); a library's caller decides.
    Up to 2 GB that aren't used any more stay with the process.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):  # musl has mallopt neither
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
    return all(libc.mallopt(name, value) == 1 for name, value in settings.items())
