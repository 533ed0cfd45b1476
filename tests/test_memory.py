from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT

_CODE = """
import numpy as np
from gfpgan_core import memory

def rss_mib():
    (line,) = (l for l in open('/proc/self/status') if l.startswith('VmRSS'))
    return int(line.split()[1]) // 1024

def after(size_mib):
    block = np.ones(size_mib << 20, np.uint8)
    del block
    return rss_mib()

before = rss_mib()
print(memory.keep_freed_memory(), after(100) - before, end=' ')
memory.release_freed_memory()
print(rss_mib() - before, end=' ')
with memory.returning_freed_memory():
    print(after(300) - before, end=' ')
print(after(200) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_released_and_returned() -> None:
    result = subprocess.run(
        [sys.executable, "-c", _CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    works, kept, released, returned, kept_again = result.stdout.split()
    if works == "False":
        pytest.skip("this C library is not glibc")
    assert int(kept) >= 99 and int(kept_again) >= 199
    assert int(released) < 20 and int(returned) < 20
