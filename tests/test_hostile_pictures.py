"""Pictures and archives made to harm: a result or an InputError, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import HANG_S, ROOT

MOST_CPU_S = 10.0
MOST_MIB = 1024

_READER = """
import json, resource, sys, tempfile, time
from pathlib import Path
sys.path.insert(0, "tests")
from gfpgan_core.errors import InputError
from gfpgan_core.images import decode
from hostile.pictures import archives, pictures
from scripts.process_memory import process_memory_mib
from train.unpack import unpack_images

def read_picture(data):
    photo = decode(data)
    height, width = photo.rgb.shape[:2]
    assert photo.rgb.shape == (height, width, 3)
    assert photo.alpha is None or photo.alpha.shape == (height, width)

def read_archive(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "archive"
        path.write_bytes(data)
        unpack_images(path, Path(folder) / "out")

read, cases = {
    "pictures": (read_picture, pictures), "archives": (read_archive, archives)
}[sys.argv[1]]
for name, data in list(cases()):
    Path("/proc/self/clear_refs").write_text("5")
    start = time.process_time()
    try:
        read(data)
        outcome = "read"
    except InputError:
        outcome = "refused"
    except BaseException as error:
        outcome = repr(error)[:200]
    seconds = time.process_time() - start
    peak = process_memory_mib(what="VmHWM")
    print(json.dumps([name, len(data), outcome, seconds, peak]), flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads memory from /proc")
@pytest.mark.parametrize(("kind", "least"), [("pictures", 1000), ("archives", 300)])
def test_hostile_files_are_read_or_refused_in_bounded_time_and_memory(
    kind: str, least: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _READER, kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (results[-1:], done.stderr[-2000:])
    assert len({name for name, *_ in results}) == len(results) >= least
    assert {outcome for _, _, outcome, _, _ in results} == {"read", "refused"}
    wrong = [r for r in results if r[1] < 1e6 and (r[3] > MOST_CPU_S or r[4] > MOST_MIB)]
    assert not wrong
    slowest, largest = max(r[3] for r in results), max(r[4] for r in results)
    print(f"{len(results)} {kind}: {slowest:.1f} s, {largest:.0f} MiB at most")
