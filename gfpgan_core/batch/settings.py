"""The settings of a batch, and the key that its results are stored under."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gfpgan_core.config import RestoreOptions
from gfpgan_core.errors import InputError
from gfpgan_core.weights.folders import weights_sha256
from gfpgan_core.weights.releases import RELEASES, SHIPPED

# Pixels hardly depend on these: the results of one device are taken for those of another.
_NOT_IN_KEY = ("weights", "device", "backend", "threads")


@dataclass(frozen=True)
class Settings:
    """The networks, and what is done with each photo."""

    version: str = "compact"
    weights: str = ""
    """A weight file or folder of your own, in place of the version's."""
    detector: str = "auto"
    mask: str = "auto"
    device: str | None = None
    threads: int = 1
    """Of each worker. The same number gives the same bytes, on one kind of processor; another may
    change a pixel by 1 of 255."""
    backend: str = "auto"
    format: str = "auto"
    keep_gps: bool = False
    options: RestoreOptions = field(default_factory=RestoreOptions)

    def to_json(self) -> str:
        """Return the settings as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Return the settings that `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        options = values.pop("options")
        options["boxes"] = tuple(tuple(box) for box in options["boxes"])
        if isinstance(options["faces"], list):
            options["faces"] = tuple(options["faces"])
        return cls(**values, options=RestoreOptions(**options))

    def described(self) -> dict[str, Any]:
        """Return what results depend on: the options, and the sha256 of the weights.

        Raises:
            WeightsError: the weights can't be read.
            InputError: unknown version.
        """
        values = {name: value for name, value in asdict(self).items() if name not in _NOT_IN_KEY}
        return values | {"weights_sha256": self._weights_sha256()}

    def key(self) -> str:
        """Return the name of these settings' folder: 12 hexadecimal digits of their hash.

        Values at their defaults are left out: a run goes on where a later version has options that
        an earlier one had not.

        Raises:
            WeightsError: the weights can't be read.
            InputError: unknown version.
        """
        named, usual = self.described(), asdict(type(self)())
        named["options"] = _differing(named["options"], usual.pop("options"))
        text = json.dumps(_differing(named, usual), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _weights_sha256(self) -> str:
        if self.version not in RELEASES:
            raise InputError(f"version is {self.version!r}; allowed: {', '.join(RELEASES)}")
        release = RELEASES[self.version]
        if release.file and not self.weights:
            return release.file.sha256
        return weights_sha256(Path(self.weights) if self.weights else SHIPPED)


def _differing(values: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != usual.get(name, ...)}
