"""What we write for Cog's server against what Cog itself makes of the same files (needs Go)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import ROOT

from scripts.write_openapi_schema import input_schemas, schema

PROGRAM = ROOT / "tests" / "cog_schema"

# No line of ours: a declaration of every kind that the writer knows.
_PREDICT = '''
from typing import Optional
from cog import BaseRunner, Input, Path


class Predictor(BaseRunner):
    def run(
        self,
        img: Path = Input(description="A <photo> & more", accept="image/*"),
        mask: Optional[Path] = Input(default=None),
        note: str = Input(default="", description="Text"),
        mode: str = Input(choices=["a", "b"]),
        size: int = Input(default=2, choices=[1, 2]),
        share: float = Input(default=0.5, ge=0, le=1),
        steps: int = Input(ge=1),
        fast: bool = Input(default=True),
    ) -> Path:
        """Run."""
'''
_TRAIN = '''
from typing import Optional
from cog import BaseModel, Input, Path


class TrainingOutput(BaseModel):
    weights: Path


def train(
    train_data: Path = Input(description="zip"),
    mode: str = Input(default="x", choices=["x", "y"]),
    seed: Optional[int] = Input(default=None, ge=0),
) -> TrainingOutput:
    """Train."""
'''


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our small program over Cog's own modules, built; or a visible skip."""
    if shutil.which("go") is None:
        pytest.skip("needs Go, to build Cog's own schema parser")
    program = tmp_path_factory.mktemp("go") / "cogschema"
    command = ["go", "build", "-o", str(program), "."]
    built = subprocess.run(command, cwd=PROGRAM, capture_output=True, text=True, check=False)
    if built.returncode and "github.com/replicate/cog@" in built.stderr + built.stdout:
        pytest.skip(f"Cog's Go module can't be had: {built.stderr.strip().splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    return program


def _run(*command: str | Path) -> Any:
    environment = {key: value for key, value in os.environ.items() if key != "COG_OPENAPI_SCHEMA"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout, object_pairs_hook=list)  # keeps the order of names


def _as_written(document: Any) -> Any:
    """A document as it reads from the file that the script writes."""
    return json.loads(json.dumps(document, sort_keys=True), object_pairs_hook=list)


def _without_version(document: list[Any]) -> list[Any]:
    """A document without the version of the Cog that made it."""
    return [(name, value) for name, value in document if name != "info"]


@pytest.mark.parametrize("theirs", ["this project", "an example"])
def test_the_schema_equals_cogs_own(cog: Path, tmp_path: Path, theirs: str) -> None:
    if theirs == "this project":
        sources = [(ROOT / name).read_text() for name in ("predict.py", "train/cog_train.py")]
    else:
        sources = [_PREDICT, _TRAIN]
    (tmp_path / "predict.py").write_text(sources[0])
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "cog_train.py").write_text(sources[1])
    references = ("predict.py:Predictor", "train/cog_train.py:train")
    made = _run(cog, "schema", tmp_path, *references)
    ours = _as_written(schema(*sources))
    assert _without_version(ours) == _without_version(made)


def test_cog_accepts_the_configuration_and_takes_the_cuda_that_torch_is_built_for(
    cog: Path,
) -> None:
    """And warns of nothing. Left to itself Cog would take a newer CUDA."""
    build = dict(dict(_run(cog, "config", ROOT))["build"])
    pinned = yaml.safe_load((ROOT / "cog.yaml").read_text())["build"]["cuda"]
    assert build["cuda"] == pinned
    installed = f"torch=={torch.__version__.partition('+')[0]}"
    if torch.version.cuda and installed in (ROOT / "requirements.txt").read_text().splitlines():
        assert torch.version.cuda == pinned


def test_a_bound_that_is_no_literal_is_refused() -> None:
    """Cog drops it without a word, and the server would accept any value."""
    source = "def run(self, n: int = Input(default=1, ge=MINIMUM)) -> int: ..."
    with pytest.raises(ValueError, match="malformed node"):
        input_schemas(source, "run", "Input")


def test_our_files_use_no_deprecated_name_of_cogs() -> None:
    code = (
        "import warnings, predict, train.cog_train\n"
        "warnings.simplefilter('error', DeprecationWarning)\n"
        "from cog.predictor import load_predictor_from_ref as load\n"
        "load('predict.py:Predictor'), load('train/cog_train.py:train')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
