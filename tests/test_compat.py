from __future__ import annotations

import subprocess
import sys

from conftest import ROOT


def _python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_basicsr_still_needs_the_stand_in() -> None:
    """When this fails, `compat.restore_functional_tensor` can go."""
    assert "functional_tensor" in _python("import basicsr").stderr


def test_basicsr_and_realesrgan_import_with_it() -> None:
    code = (
        "from gfpgan_core import compat; compat.restore_functional_tensor();"
        "import basicsr.archs.rrdbnet_arch, realesrgan.archs.srvgg_arch; print('both')"
    )
    result = _python(code)
    assert result.stdout.endswith("both\n"), result.stderr
