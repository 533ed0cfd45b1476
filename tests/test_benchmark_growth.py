"""That growth is told as it is, and that the benchmark's tables show what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from scripts import benchmark_growth
from scripts.benchmark_growth import Case, Measured, fits, growth


def test_a_line_is_found_and_is_linear() -> None:
    found = growth([1, 2, 5], [5, 7, 13])
    assert (found.constant, found.slope) == pytest.approx((3, 2))
    assert found.exponent == pytest.approx(0.6756, abs=1e-4)  # log(13 / 7) / log(5 / 2)
    assert found.is_linear
    assert growth([1, 2, 5], [5, 7, 13], base=3).exponent == pytest.approx(1)


def test_a_square_is_worse_than_linear() -> None:
    found = growth([1, 2, 4], [1, 4, 16])
    assert found.exponent == pytest.approx(2)
    assert not found.is_linear
    assert growth([1, 2, 4], [101, 104, 116], base=100).exponent == pytest.approx(2)


def test_a_series_that_is_worse_than_linear_is_named() -> None:
    def series(*seconds: float) -> list[tuple[Case, Measured]]:
        return [(Case(n), Measured(1, s, 100 + 50 * n, 100, {})) for n, s in enumerate(seconds, 1)]

    _, _, *lines = fits({"even": series(1, 2, 3), "square": series(1, 4, 9), "one": series(1)})
    assert lines == [
        "| even | 0.00 +1.000 x | 1.00 | 100 +50.0 x | 1.00 |  |",
        "| square | -3.33 +4.000 x | 2.00 | 100 +50.0 x | 1.00 | worse than linear |",
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_tables_have_the_cases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [Case(n, (600, 300), (2, 1), n, threads=1) for n in (1, 2)]
    monkeypatch.setattr(benchmark_growth, "series", lambda: {"faces": cases, "other": []})
    written = tmp_path / "growth.json"
    benchmark_growth.main(["--json", str(written)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:4]] == [
        ["| faces", "1", "1"],
        ["| faces", "2", "2"],
    ]
    assert lines[-1].startswith("| faces | ")
    rows = json.loads(written.read_text())
    assert [(row["series"], row["faces"], row["found"]) for row in rows] == [
        ("faces", 1, 1),
        ("faces", 2, 2),
    ]
    for row in rows:
        assert row["peak_mib"] > row["loaded_mib"] > 0
        assert row["seconds"] > sum(row["parts_s"].values()) > 0
