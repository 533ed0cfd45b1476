"""Photos for the tests of batches, and what a batch made of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from gfpgan_core.__main__ import main
from gfpgan_core.batch.rows import Row
from gfpgan_core.batch.settings import Settings
from gfpgan_core.config import RestoreOptions

# For `sitecustomize.py`: a process that restores photos hands them back as they are, and begins
# without torch. Everything around its networks is the product's.
_WITHOUT_NETWORKS = f"""
import sys
sys.path += [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import slow_cli
from gfpgan_core import loading
loading.load_restorer = lambda *_, **__: slow_cli.SlowRestorer(0)
"""


@pytest.fixture
def no_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `sitecustomize.py` of all processes, for tests that look at no restored pixel."""
    hook = tmp_path / "hook" / "sitecustomize.py"
    hook.parent.mkdir()
    hook.write_text(_WITHOUT_NETWORKS)
    monkeypatch.setenv("PYTHONPATH", str(hook.parent))
    return hook


@pytest.fixture
def settings(tiny_weights: Path) -> Settings:
    """Aligned: each photo is one face, and none has to be found. A small network: starts count."""
    options = RestoreOptions(aligned=True, scale=1)
    return Settings(weights=str(tiny_weights), format="png", options=options)


def run_command(settings: Settings, manifest: Path, output: Path) -> list[str]:
    """Return the arguments that run a manifest with such settings, by one worker."""
    command = ["batch", "run", str(manifest), "--output", str(output)]
    command += ["--weights", settings.weights, "--aligned", "--scale", "1", "--workers", "1"]
    return command


def save_photo(path: Path, seed: int) -> None:
    """Save a square of noise, which stands for an aligned face."""
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


def make_photos(folder: Path, count: int) -> Path:
    """Make a folder of photos, and `broken.jpg`, which is none."""
    folder.mkdir()
    for number in range(count):
        save_photo(folder / f"{number}.png", number)
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def make_manifest(source: Path, shards: int) -> Path:
    """Make the manifest of a folder or a list, beside it."""
    path = source.parent / "manifest.parquet"
    command = ["batch", "manifest", str(source), "--output", str(path), "--overwrite"]
    assert main([*command, "--shards", str(shards)]) == 0
    return path


def rows_of(run: Path) -> list[Row]:
    """Return the rows of all finished shards; each result's file is what its row says."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="batches need pyarrow")
    rows = []
    for file in sorted(run.glob("*/rows.parquet")):
        for row in (Row(**values) for values in parquet.read_table(file).to_pylist()):
            if row.status == "restored":
                data = (file.parent / row.output).read_bytes()
                assert hashlib.sha256(data).hexdigest() == row.sha256
            rows.append(row)
    return rows
