"""How this process's memory is kept."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_DEFAULT_MMAP_MAX = 65536

_keeping = False


def keep_freed_memory() -> bool:
    """Whether glibc now keeps freed memory for the next allocation; for the whole process.

    By default each block of 32 MB and more is mapped anew, and the kernel clears it page by page:
    a third of a network's time on the CPU, where every layer's output is such a block. For programs
    that do little else (the command line, the server, training); a library's caller decides.
    Up to 2 GB that aren't used any more stay with the process.
    """
    global _keeping
    libc = _glibc()
    if libc is None:
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1, _M_TOP_PAD: 64 << 20}
    _keeping = all(libc.mallopt(name, value) == 1 for name, value in settings.items())
    return _keeping


@contextmanager
def returning_freed_memory() -> Iterator[None]:
    """Within, freed blocks go back to the system after all, if this process keeps them else.

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
    """Gives what is kept and not used back to the system, once."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None  # musl has no mallopt
