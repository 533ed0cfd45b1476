"""Even parts of a length."""

from __future__ import annotations

import itertools


def even_parts(total: int, most: int) -> list[tuple[int, int]]:
    """Split 0..`total` into parts (start, stop) of nearly equal size, none above `most`."""
    count = -(-total // most)
    edges = [total * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
