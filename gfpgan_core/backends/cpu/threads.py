"""The cores, shared between torch, BLAS and the threads of the modules beside this one.

While our threads run a network, torch has one thread: OpenMP's threads spin for some 4 ms after
each operation, on the cores that ours need (1.67 s a face with them, 1.17 s without).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

_scratch = threading.local()


class _Threads:
    """Limits torch and BLAS to one thread for as long as a network runs on our threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # how many threads they may use is the process's
        self.count = 0  # outside of `exclusive`

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Limit torch and BLAS to the calling thread within the context; one caller at a time."""
        with self._lock:
            if self.count:
                yield
                return
            self.count = torch.get_num_threads()
            try:
                with _blas().limit(limits=1, user_api="blas"):
                    torch.set_num_threads(1)
                    yield
            finally:
                torch.set_num_threads(self.count)
                self.count = 0

    @contextmanager
    def torch_threads(self) -> Iterator[None]:
        """Give torch the cores back within `exclusive`; outside of it, change nothing."""
        if not self.count:
            yield
            return
        torch.set_num_threads(self.count)
        try:
            yield
        finally:
            torch.set_num_threads(1)


threads = _Threads()


def scratch_of(size: int) -> NDArray[np.float32]:
    """Return `size` floats of the thread's own, kept between layers: fresh pages cost time."""
    if getattr(_scratch, "array", None) is None or _scratch.array.size < size:
        _scratch.array = np.empty(size, np.float32)
    return _scratch.array[:size]


def in_parallel(work: Callable[[tuple[int, int]], None], parts: list[tuple[int, int]]) -> None:
    """Call `work` on every part, on as many threads as torch uses, this one among them."""
    others = min(threads.count, len(parts)) - 1
    if others < 1:
        for part in parts:
            work(part)
        return
    remaining = iter(parts)  # `next` of a list's iterator is atomic: each part is taken once

    def take() -> None:
        for part in remaining:
            work(part)

    running = [_pool(others).submit(take) for _ in range(others)]
    take()
    for future in running:
        future.result()


@cache
def _pool(size: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(size, thread_name_prefix="winograd")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
