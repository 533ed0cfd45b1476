"""Weight files made to harm: a network or a WeightsError, in bounded time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import HANG_S, ROOT
from hostile.weight_files import Case
from hostile.weights import cases

MOST_CPU_S = 10.0
MOST_MIB = 1024
_FILES_A_PROCESS = 120

# Reads the files that it is told; says of each what became of it. Its memory is limited, so that a
# file that asks for too much fails there and not with the machine.
_READER = """
import json, resource, sys, time
from pathlib import Path
from gfpgan_core.errors import WeightsError
from gfpgan_core.weights.load import load_file
from scripts.process_memory import process_memory_mib

load_file(Path(sys.argv[1]))  # what is imported and built at the first file isn't the files'
if sys.platform.startswith("linux"):
    limit = int(process_memory_mib(what="VmSize")) + int(sys.argv[2]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in sys.stdin.read().splitlines():
    start = time.process_time()
    try:
        load_file(Path(name))
        outcome, text = "network", ""
    except WeightsError as error:
        outcome, text = "refused", str(error)
    except BaseException as error:
        outcome, text = type(error).__name__, str(error)[:200]
    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    seconds = time.process_time() - start
    print(json.dumps([Path(name).name, outcome, text, seconds, more / 1024]), flush=True)
"""


@dataclass(frozen=True)
class Result:
    outcome: str
    text: str
    cpu_s: float
    more_mib: float
    """The process's largest memory so far, beyond what it had before the first file."""


CASES = {case.name: case for case in cases()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> dict[str, Result]:
    """What became of each file; several are read in one process."""
    folder = tmp_path_factory.mktemp("hostile")
    for case in CASES.values():
        (folder / case.name).write_bytes(case.data)
    names = list(CASES)
    found = {}
    for start in range(0, len(names), _FILES_A_PROCESS):
        paths = [str(folder / name) for name in names[start : start + _FILES_A_PROCESS]]
        process = subprocess.run(
            [sys.executable, "-c", _READER, str(tiny_weights), str(MOST_MIB)],
            input="\n".join(paths),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=HANG_S,
        )
        for line in process.stdout.splitlines():
            if line.startswith("["):
                name, *rest = json.loads(line)
                found[name] = Result(*rest)
        assert process.returncode == 0, process.stderr[-2000:]
        assert "stranger" not in process.stdout
    return found


def test_there_are_at_least_150_small_files() -> None:
    assert len(CASES) >= 150
    assert all(len(case.data) < 1e6 for case in CASES.values())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_hostile_file_becomes_a_network_or_is_refused(
    case: Case, results: dict[str, Result]
) -> None:
    result = results[case.name]
    if case.outcome == "either":
        assert result.outcome in ("network", "refused"), result.text
    else:
        assert result.outcome == case.outcome, result.text
    assert result.cpu_s < MOST_CPU_S
    assert result.more_mib < MOST_MIB
    assert "more memory than there is" not in result.text  # the process's limit isn't the reader's
    # torch's advice, to a stranger's file of all things, and a whole page of text.
    assert "weights_only" not in result.text
    assert len(result.text) < 1500
