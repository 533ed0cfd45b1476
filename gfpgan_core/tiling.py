"""A length cut into parts."""

from __future__ import annotations

import itertools


def even_parts(total: int, most: int) -> list[tuple[int, int]]:
    """0..`total` in parts (start, stop) of nearly equal size, none above `most`."""
    count = -(-total // most)
    edges = [total * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
