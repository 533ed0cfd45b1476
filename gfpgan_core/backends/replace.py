"""Layers of a network replaced by others that compute the same, found by a table of types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Place:
    """Where a layer is: `getattr(parent, name)`."""

    parent: nn.Module
    name: str
    path: str
    """From the network down, as `decoder.0.conv1`."""


# A layer, of the type that the table says, and its place to what replaces it; None: it stays.
Replace = Callable[[Any, Place], nn.Module | None]

# By the layer type's full name, so that a package's layers need no import of the package.
Table = Mapping[str, Replace]


def full_name(layer_type: type[nn.Module]) -> str:
    """Return the name that a `Table` knows a type of layer by."""
    return f"{layer_type.__module__}.{layer_type.__qualname__}"


def replace_layers(network: nn.Module, table: Table) -> None:
    """Replace, in place, the network's layers whose type, not a base of it, is in the table."""
    for parent_path, parent in list(network.named_modules()):
        for name, child in list(parent.named_children()):
            replace = table.get(full_name(type(child)))
            path = f"{parent_path}.{name}" if parent_path else name
            faster = replace(child, Place(parent, name, path)) if replace else None
            if faster is not None:
                setattr(parent, name, faster)
