"""A restorer that needs no network, for tests of everything around it: folders, names, reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gfpgan_core import images
from gfpgan_core.__main__ import main
from gfpgan_core.cli import restore
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.result import Restoration

# Of a face 8 px wide: eyes, nose, corners of the mouth.
_LANDMARKS = np.array([[2.5, 3], [5.5, 3], [4, 4.5], [2.8, 6], [5.2, 6]])


@dataclass(frozen=True)
class FakeRestorer:
    """Hands each photo back as it is, with one face."""

    def restore_many(
        self, photos: Iterable[Path], options: RestoreOptions
    ) -> Iterator[Restoration | Exception]:
        for path in photos:
            try:
                photo = images.read(path)
            except InputError as error:
                yield error
                continue
            face = Face(np.array([0.0, 0, 8, 8]), _LANDMARKS, 0.75)
            crop, restored = photo.rgb[:8, :8], 255 - photo.rgb[:8, :8]
            found = [face], [crop], [restored]
            about = photo.metadata
            yield Restoration(photo.rgb, photo.alpha, photo.format, *found, metadata=about)


class Cli:
    """The command line in this process, and what it printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.out = self.err = ""

    def __call__(self, *arguments: object) -> int:
        status = main(["restore", *map(str, arguments)])
        self.read()
        return status

    def read(self) -> None:
        """Take what was printed since."""
        self.out, self.err = self._capsys.readouterr()

    @property
    def closing(self) -> str:
        """The last line of the standard output."""
        return self.out.splitlines()[-1]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """The command line with a restorer that takes no time."""
    monkeypatch.setattr(restore, "load_restorer", lambda _: FakeRestorer())
    return Cli(capsys)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder for results, which isn't there yet."""
    return tmp_path / "out"


def photo(path: Path, seed: int = 0, *, format: str = "", side_px: int = 16) -> Path:
    """Write a small picture, a different one for each seed; the format is the suffix's or named."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (side_px, side_px, 3), np.uint8)
    kinds = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
    Image.fromarray(pixels).save(path, format or kinds[path.suffix.lower()])
    return path


def visible(folder: Path) -> list[str]:
    """The files in a folder and its folders, hidden ones left out."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )


def contents(folder: Path) -> dict[str, bytes]:
    """The visible files with what is in them."""
    return {name: (folder / name).read_bytes() for name in visible(folder)}
