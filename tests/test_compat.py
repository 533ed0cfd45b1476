from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT

# One process: most of the time goes to importing torch.
_IMPORTS = """
import json, sys
from gfpgan_core import compat
found = {}
try:
    import basicsr
except ImportError as error:
    found["without"] = str(error)
for name in [name for name in sys.modules if name.partition(".")[0] == "basicsr"]:
    del sys.modules[name]
compat.restore_functional_tensor()
import basicsr.archs.rrdbnet_arch, realesrgan.archs.srvgg_arch
found["with"] = [basicsr.archs.rrdbnet_arch.__name__, realesrgan.archs.srvgg_arch.__name__]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def imports() -> dict[str, object]:
    """How importing basicsr fails without the stand-in, and what is imported with it."""
    command = [sys.executable, "-W", "ignore", "-c", _IMPORTS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout.splitlines()[-1]))


def test_basicsr_still_needs_the_stand_in(imports: dict[str, object]) -> None:
    """When this fails, `compat.restore_functional_tensor` can go."""
    assert "functional_tensor" in str(imports.get("without"))


def test_basicsr_and_realesrgan_import_with_it(imports: dict[str, object]) -> None:
    assert imports["with"] == ["basicsr.archs.rrdbnet_arch", "realesrgan.archs.srvgg_arch"]
