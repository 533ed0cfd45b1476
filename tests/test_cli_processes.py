"""The command line as a process that is interrupted, killed, starved and not listened to."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import contents, photo, visible
from faults import captured
from slow_cli import command, environment

import gfpgan_core.__main__
from gfpgan_core import images


def _run(*arguments: object, seconds: float = 0.0) -> subprocess.CompletedProcess[str]:
    return captured(command(seconds, *arguments), environment())


def test_photos_are_restored_when_nobody_listens(tmp_path: Path) -> None:
    """Standard streams that are closed, full, or whose reader went away."""
    album = photo(tmp_path / "album" / "a\udce9.png", 1).parent
    photo(album / "b.png", 2)
    (album / "c.jpg").write_text("no photo")
    line = " ".join(f'"{part}"' for part in command(0, album, "--output"))
    for number, redirected in enumerate((">&- 2>&-", "<&- >&- 2>&-", ">/dev/full", "| true")):
        out = tmp_path / f"out{number}"
        script = f'set -o pipefail; {line} "{out}" {redirected}'
        result = captured(
            ["bash", "-c", script], {**environment(), "PYTHONIOENCODING": "utf-8:strict"}
        )
        assert result.returncode == 1  # for c.jpg
        assert [images.read_rgb(out / name).shape for name in visible(out)] == [(16, 16, 3)] * 2
        assert "Traceback" not in result.stderr and "Exception" not in result.stderr


def test_closed_streams_are_filled_before_a_file_gets_their_number(tmp_path: Path) -> None:
    """Else what a library prints to number 2 goes into a photo."""
    code = (
        "import os, stat, sys; from gfpgan_core.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "kinds = [stat.S_ISCHR(os.fstat(number).st_mode) for number in range(3)]\n"
        "open('kinds', 'w').write(str(kinds))"
    )
    script = f'"{sys.executable}" -c "{code}" <&- >&- 2>&-'
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment(), check=True)
    assert (tmp_path / "kinds").read_text() == "[True, True, True]"


def test_a_log_has_no_progress_bar(tmp_path: Path) -> None:
    for number in range(3):
        photo(tmp_path / "album" / f"{number}.png", number)
    result = _run(tmp_path / "album", "--output", tmp_path / "out", seconds=0.2)
    assert result.returncode == 0
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 4 and "\r" not in result.stdout


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of 20 photos, 0.1 s each, whose first result is reported; in folders album and out."""
    for number in range(20):
        photo(tmp_path / "album" / f"{number:02}.png", number)
    process = subprocess.Popen(
        command(0.1, tmp_path / "album", "--output", tmp_path / "out"),
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background job, as a test run may be, ignores SIGINT, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and "00.png" in process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_ctrl_c_is_one_line_and_resume_goes_on(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    running.send_signal(signal.SIGINT)
    out, err = running.communicate()
    assert running.returncode == 130
    (line,) = err.splitlines()
    restored = len(out.splitlines()) + 1
    assert line == (
        f"interrupted: {restored} restored, 0 failed, {20 - restored} not tried, 0 passed over;"
        " the same command with --resume goes on"
    )
    assert 1 <= restored < 20
    _assert_resumed(tmp_path, restored)


@pytest.mark.parametrize("module", ["parser", "restore", "results"])
def test_ctrl_c_while_modules_are_imported_is_one_line(tmp_path: Path, module: str) -> None:
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == 'gfpgan_core.cli.{module}': os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from gfpgan_core.__main__ import main\n"
        "sys.exit(main(['restore', 'a.png']))"
    )
    result = captured([sys.executable, "-c", code], environment())
    assert (result.returncode, result.stderr, result.stdout) == (130, "interrupted\n", "")


def test_a_killed_run_leaves_whole_files_and_resume_goes_on(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    running.kill()
    running.communicate()
    results = list((tmp_path / "out").glob("*.png"))
    for path in results:
        assert images.read_rgb(path).shape == (16, 16, 3)
    _assert_resumed(tmp_path, len(results))


def _assert_resumed(tmp_path: Path, done: int) -> None:
    """The same command with --resume restores the rest, and the whole is as if in one go."""
    arguments = (tmp_path / "album", "--output", tmp_path / "out")
    result = _run(*arguments, "--resume")
    closing = result.stdout.splitlines()[-1]
    assert closing == f"{20 - done} restored, 0 failed, {done} passed over: {done} done already"
    assert _run(*arguments[:2], tmp_path / "whole").returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def _with_mount(tmp_path: Path, mount: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line where only it sees a file system on `out`, or skip visibly.

    The results are copied to `copy` before the file system vanishes.
    """
    (tmp_path / "out").mkdir(exist_ok=True)
    run = " ".join(f'"{part}"' for part in command(0, *arguments))
    script = f"{mount} 2>&1 || exit 77; {run}; status=$?; cp -a out/. copy; exit $status"
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    result = subprocess.run(
        ["unshare", "--mount", "bash", "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode in (77, 1) and not (tmp_path / "copy").exists():
        pytest.skip(f"can't mount here: {(result.stdout + result.stderr).strip()[:200]}")
    return result


def test_a_full_disk_stops_the_run_and_leaves_whole_files(tmp_path: Path) -> None:
    for number in range(6):
        photo(tmp_path / "album" / f"{number}.png", number, side_px=200)  # 120 kB each
    mount = "mount -t tmpfs -o size=360k tmpfs out"
    result = _with_mount(tmp_path, mount, tmp_path / "album", "--output", "out")
    assert result.returncode == 1
    assert "No space left on device" in result.stderr and "--resume" in result.stderr
    numbers = re.findall(r"\d+", result.stdout.splitlines()[-1])
    restored, failed, not_tried, passed_over = map(int, numbers)
    assert (restored, failed + not_tried, passed_over) == (2, 4, 0)
    assert failed in (1, 2)  # the next one may be restored before the disk is known to be full
    assert sorted(path.name for path in (tmp_path / "copy").glob("*.p*")) == ["0.png", "1.png"]
    assert images.read_rgb(tmp_path / "copy" / "1.png").shape == (200, 200, 3)


def test_a_read_only_disk_is_noticed_before_anything_is_restored(tmp_path: Path) -> None:
    path = photo(tmp_path / "a.png")
    mount = "mount -t tmpfs -o ro tmpfs out"
    result = _with_mount(tmp_path, mount, path, "--output", "out")
    assert result.returncode == 1 and result.stdout == ""
    assert "Read-only file system" in result.stderr


def test_an_original_survives_on_a_disk_that_ignores_case(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(16 << 20)
    format_disk = ["mkfs.ext4", "-q", "-O", "casefold", str(image)]
    if not shutil.which("mkfs.ext4") or subprocess.run(format_disk, check=False).returncode:
        pytest.skip("needs mkfs.ext4 with casefold")
    original = photo(tmp_path / "IMG_1.JPG")
    mount = "mount -o loop disk.img out && mkdir out/x && chattr +F out/x && cp IMG_1.JPG out/x"
    result = _with_mount(tmp_path, mount, "out/x/IMG_1.JPG", "--output", "out/x", "--overwrite")
    assert result.returncode == 0
    assert (tmp_path / "copy" / "x" / "IMG_1.JPG").read_bytes() == original.read_bytes()
    assert (tmp_path / "copy" / "x" / "IMG_1_2.jpg").is_file()


def test_an_output_folder_that_is_removed_meanwhile_is_made_again(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "out")
    out, _ = running.communicate()
    assert out.splitlines()[-1] == "20 restored, 0 failed, 0 passed over"
    assert (tmp_path / "out" / "19.png").is_file()


def test_an_output_folder_that_takes_no_more_files_ends_the_run(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Restoring the others would cost hours, and each of them would fail."""
    (tmp_path / "out").rename(tmp_path / "moved")
    (tmp_path / "out").touch()
    out, err = running.communicate()
    assert running.returncode == 1
    assert "stopped: no more photos can be written (Not a directory)" in err
    assert err.count("FAILED") <= 2 and " not tried" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            # What the loader says of torch's libraries under `ulimit -v 1500000`.
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "a library can't be loaded: libtorch_cpu.so",
        ),
        (MemoryError(), "there is not enough memory"),
    ],
)
def test_too_few_addresses_for_the_libraries_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, text: str
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(gfpgan_core.__main__, "_run", fail)
    assert gfpgan_core.__main__.main([]) == 1
    said = capsys.readouterr().err
    assert said.startswith(text) and "`ulimit -v`" in said and said.count("\n") == 1
