"""The page that `restore --report` writes: what it shows, and what a browser makes of it."""

from __future__ import annotations

import base64
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pages
import pytest
from browser import Opener, chromium
from cli_runs import Cli, cli, contents, out, photo, visible
from PIL import Image
from skimage import data

from gfpgan_core.cli import report_page

__all__ = ["chromium", "cli", "out"]

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202e &amp;\n'


def _page(folder: Path, name: str = "report.html") -> str:
    return (folder / name).read_text(encoding="utf-8")


def _pictures(page: str) -> list[Image.Image]:
    """The pictures in the page, before and after of each pair in turns."""
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in encoded]


def test_the_page_shows_photos_faces_failures_and_counts(
    cli: Cli, tmp_path: Path, out: Path
) -> None:
    album = tmp_path / "album"
    photo(album / "a.png", 1)
    photo(album / "may" / "b.png", 2)
    (album / "c.jpg").write_text("no photo")
    (album / "notes.txt").write_text("no photo either")
    assert cli(album, "--output", out, "--report") == 1
    assert visible(out) == ["a.png", "may/b.png", "report.html"]
    assert cli.out.splitlines()[-2:] == [
        f"report: {out / 'report.html'}",
        "2 restored, 1 failed, 1 passed over: 1 not an image",
    ]
    page = _page(out)
    assert "2 restored, 1 failed, 1 passed over: 1 not an image" in page
    assert "1 failed</h2>" in page and "c.jpg is no image" in page
    assert re.findall(r'href="([^"]+)"', page) == ["./a.png", "./may/b.png"]
    assert page.count("score 0.75") == 2 and page.count("16 x 16, now 16 x 16 px") == 2
    sizes = [picture.size for picture in _pictures(page)]
    assert sizes == [(16, 16), (16, 16), (320, 320), (320, 320)] * 2


def test_before_is_the_photo_and_after_the_result(cli: Cli, tmp_path: Path, out: Path) -> None:
    """The stand-in restorer gives the photo back, and each face as its negative."""
    dark = np.full((16, 16, 3), 40, np.uint8)
    Image.fromarray(dark).save(tmp_path / "a.png")
    assert cli(tmp_path / "a.png", "--output", out, "--report") == 0
    means = [np.asarray(picture).mean() for picture in _pictures(_page(out))]
    np.testing.assert_allclose(means, [40, 40, 40, 215], atol=1)


def test_a_hostile_name_is_shown_and_does_nothing(
    cli: Cli, tmp_path: Path, out: Path, chromium: Opener
) -> None:
    photo(tmp_path / "album" / f"{HOSTILE.replace('/', '')}.png")
    (tmp_path / "album" / f"x{HOSTILE.replace('/', '')}.jpg").write_text("no photo")
    (tmp_path / "album" / os.fsdecode(b"\xff<b>.jpg")).write_text("no photo")
    assert cli(tmp_path / "album", "--output", out, "--report") == 1
    page = _page(out)
    assert "<img src=x" not in page and "alert(2)<" not in page and "\u202e" not in page
    assert page.count("<script>") == 1 and "\\xff&lt;b&gt;.jpg" in page
    tab = chromium(1000, 800)
    tab.open((out / "report.html").as_uri())
    assert tab.value("document.scripts.length") == 1
    assert tab.value("[...document.images].every(i => i.src.startsWith('data:image/jpeg'))")
    assert "onerror=alert(1)" in tab.value("document.querySelector('h2:not(.failed *)').innerText")
    href = tab.value("document.querySelector('article a').href")
    tab.open(href)  # the link leads to the result
    assert tab.value("document.images[0].naturalWidth") == 16


def test_the_policy_lets_no_other_script_run(
    cli: Cli, tmp_path: Path, out: Path, chromium: Opener
) -> None:
    """As if a name had got through: nothing of it runs, and nothing is loaded."""
    photo(tmp_path / "a.png")
    assert cli(tmp_path / "a.png", "--output", out, "--report") == 0
    injected = (
        "<main><script>document.title = 'run'</script>"
        "<img src=x onerror=\"document.title = 'run'\"><img src='https://example.org/x.png'>"
    )
    (out / "injected.html").write_text(_page(out).replace("<main>", injected), encoding="utf-8")
    tab = chromium(1000, 800)
    tab.open((out / "injected.html").as_uri())
    assert tab.value("document.title") == "Restored photos"
    assert tab.value("document.documentElement.className") == "live"  # the page's own script ran
    assert len([text for text in tab.complaints() if "Content Security Policy" in text]) == 4


def test_the_page_stays_within_its_bounds(
    cli: Cli, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_page, "MAX_PICTURE_BYTES", 5000)
    for number in range(3):
        photo(tmp_path / "album" / f"{number}.png", number)
    assert cli(tmp_path / "album", "--output", out, "--report") == 0
    page = _page(out)
    pictures = re.findall(r"base64,([^\"]+)", page)
    assert 0 < sum(map(len, pictures)) <= 5000 and len(pictures) < 12
    assert "no picture: this page holds at most" in page and page.count("<article>") == 3


@pytest.mark.parametrize(("photos", "side_px"), [(1, 1200), (80, 1200), (320, 600), (10**5, 320)])
def test_more_photos_get_smaller_pictures(photos: int, side_px: int, tmp_path: Path) -> None:
    assert report_page.ReportPage(tmp_path, photos).side_px == side_px


def test_a_large_photo_is_shown_small(cli: Cli, tmp_path: Path, out: Path) -> None:
    Image.new("RGB", (3000, 1500)).save(tmp_path / "a.png")
    assert cli(tmp_path / "a.png", "--output", out, "--report") == 0
    assert _pictures(_page(out))[0].size == (1200, 600)


def test_a_page_of_someone_else_is_not_replaced(cli: Cli, tmp_path: Path, out: Path) -> None:
    photo(tmp_path / "a.png")
    out.mkdir()
    (out / "report.html").write_text("mine")
    assert cli(tmp_path / "a.png", "--output", out, "--report") == 0
    assert visible(out) == ["a.png", "report.html", "report_2.html"]
    assert _page(out) == "mine"


def test_overwrite_replaces_the_page(cli: Cli, tmp_path: Path, out: Path) -> None:
    photo(tmp_path / "a.png")
    for _ in range(2):
        assert cli(tmp_path / "a.png", "--output", out, "--report", "--overwrite") == 0
    assert visible(out) == ["a.png", "report.html"]


def test_a_resumed_run_shows_what_was_done_before(cli: Cli, tmp_path: Path, out: Path) -> None:
    album = photo(tmp_path / "album" / "a.png", 1).parent
    assert cli(album, "--output", out) == 0  # without a report, which changes nothing else
    photo(album / "b.png", 2)
    assert cli(album, "--output", out, "--report", "--resume") == 0
    page = _page(out)
    assert "1 restored, 0 failed, 1 passed over: 1 done already" in page
    first, second = page.split("<article>")[1:]
    assert "a.png" in first and "restored by an earlier run" in first
    assert len(_pictures(first)) == 2 and len(_pictures(second)) == 4
    before = contents(out)
    assert cli(album, "--output", out, "--report", "--resume") == 0  # nothing is left to do
    assert _page(out, "report_2.html").count("restored by an earlier run") == 2
    assert contents(out).items() > before.items()


def test_the_page_of_one_named_result_lies_beside_it(cli: Cli, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    assert cli(tmp_path / "a.png", "--output", tmp_path / "b.png", "--report", "--json") == 0
    assert visible(tmp_path) == ["a.png", "b.png", "b_report.html"]
    assert {"report": str(tmp_path / "b_report.html")} in map(json.loads, cli.out.splitlines())
    assert 'href="./b.png"' in _page(tmp_path, "b_report.html")


def test_the_documented_command_works(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (command,) = pages.commands("report.md")
    photo(tmp_path / "holiday" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert pages.run(command) == 0
    assert visible(tmp_path / "restored") == ["a.png", "report.html"]


def test_a_list_has_no_page(cli: Cli, tmp_path: Path, out: Path) -> None:
    assert cli(photo(tmp_path / "a.png"), "--list", "--report") == 1
    assert "--list restores nothing" in cli.err


@pytest.mark.parametrize("phone", [False, True])
def test_a_slider_moves_by_keyboard_mouse_and_finger(
    cli: Cli, tmp_path: Path, out: Path, chromium: Opener, phone: bool
) -> None:
    astronaut = data.astronaut()
    Image.fromarray(astronaut).save(tmp_path / "astronaut.png")
    assert cli(tmp_path / "astronaut.png", "--output", out, "--report") == 0
    tab = chromium(*((390, 844) if phone else (1280, 900)), phone=phone)
    tab.open((out / "report.html").as_uri())
    # The second pair is the face: the stand-in restorer's is a negative, told by its brightness.
    pair = "document.querySelectorAll('.pair')[1]"
    tab.value(f"{pair}.scrollIntoView()")
    left, top, width, height = tab.value(
        f"(b => [b.x, b.y, b.width, b.height])({pair}.getBoundingClientRect())"
    )
    assert left >= 0 and left + width <= (390 if phone else 1280)

    def seen() -> tuple[float, float]:
        """The mean brightness of the picture's left and right part, off the line and its knob."""
        picture = Image.open(io.BytesIO(tab.screenshot())).convert("L")
        pixels = np.asarray(picture)[int(top) + 8 : int(top + height / 4)]
        columns = pixels[:, int(left) + 4 : int(left + width) - 4].mean(axis=0)
        return float(columns[: len(columns) // 5].mean()), float(
            columns[-len(columns) // 5 :].mean()
        )

    before, after = seen()
    assert abs(before - after) > 40  # the left part shows the photo, the right one the result
    np.testing.assert_allclose(before + after, 255, atol=60)
    tab.value(f"{pair}.querySelector('input').focus()")
    tab.key("End")
    np.testing.assert_allclose(seen(), before, atol=25)
    tab.key("Home")
    np.testing.assert_allclose(seen(), after, atol=25)
    tab.key("ArrowRight")
    assert tab.value(f"{pair}.querySelector('input').value") == "1"
    middle = (left + width / 2, top + height / 2)
    tab.key("End")
    if phone:
        tab.touch(left + width * 0.3, middle[1])
    else:
        tab.drag((left + width * 0.9, middle[1]), (left + width * 0.3, middle[1]))
    assert abs(int(tab.value(f"{pair}.querySelector('input').value")) - 30) <= 1
    np.testing.assert_allclose(seen(), (before, after), atol=25)
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    assert tab.requests() == [(out / "report.html").as_uri()] and not tab.complaints()
