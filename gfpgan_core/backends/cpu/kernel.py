"""Typed wrappers of numba's decorators: a compiled function keeps its signature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

_P = ParamSpec("_P")
_T = TypeVar("_T")

Array = NDArray[np.float32]


def kernel(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Compile a function at its first call, without the GIL; cache the result on disk."""
    compiled: Any = njit(nogil=True, fastmath=True, cache=True)(function)
    return cast(Callable[_P, _T], compiled)


def inlined(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Compile a function into the kernels that call it."""
    compiled: Any = njit(inline="always", fastmath=True)(function)
    return cast(Callable[_P, _T], compiled)


@inlined
def apply_epilogue(y: float, scale: float, shift: float, slope: float) -> Any:
    """Return `leaky_relu(scale * y + shift, slope)` of one value."""
    y = y * scale + shift
    return y if y >= 0 else slope * y
