"""Report a run: a line for each photo and one for all, as text or JSON.

A broken output stream doesn't end the run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gfpgan_core.cli import INTERRUPTED
from gfpgan_core.cli.described import described_face
from gfpgan_core.errors import InputError, WeightsError, error_text

if TYPE_CHECKING:
    from tqdm import tqdm

    from gfpgan_core.result import Restoration

# Characters that a terminal obeys instead of showing them: controls, direction marks and line
# separators, and bytes that are no text. Joiners stay: emoji and several scripts need them.
_HIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
_JOINERS = "\u200c\u200d"

_ONE = {
    "not images": "not an image",
    "earlier results": "earlier result",
    "linked folders": "linked folder",
}


def printable(text: str) -> str:
    """Return the text with escapes in place of everything that a terminal would act on."""
    return "".join(
        _escaped(c) if unicodedata.category(c) in _HIDDEN_CATEGORIES and c not in _JOINERS else c
        for c in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds the byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


class Stream:
    """A text stream that escapes what it can't encode, and is silent after an error.

    A closed pipe, or a full disk under a log, loses the log and not the photos.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, escaped where the stream's encoding lacks a character."""
        if self._stream is None:
            return len(text)
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError):  # ValueError: it was closed
            self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def _give_up(self) -> None:
        """Redirect the stream to the null device: else Python fails to flush it at exit."""
        assert self._stream is not None
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        self._stream = None


@dataclass
class Tally:
    """Counts of the run's photos, by their outcome."""

    photos: int = 0
    """All that are to be restored."""
    restored: int = 0
    failed: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    """Reason, in the plural -> number."""

    @property
    def not_tried(self) -> int:
        """Return how many photos the run did not reach."""
        return self.photos - self.restored - self.failed

    def __str__(self) -> str:
        parts = [f"{self.restored} restored", f"{self.failed} failed"]
        if self.not_tried:
            parts.append(f"{self.not_tried} not tried")
        reasons = ", ".join(
            f"{number} {_ONE.get(reason, reason) if number == 1 else reason}"
            for reason, number in self.passed_over.most_common()
        )
        passed = f"{self.passed_over.total()} passed over"
        return ", ".join([*parts, f"{passed}: {reasons}" if reasons else passed])


class Report:
    """Reports each photo's outcome as text, and counts it."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.output, self.errors = Stream(sys.stdout), Stream(sys.stderr)
        self._bar: tqdm[Any] | None = None

    @contextlib.contextmanager
    def progress(self, photos: int) -> Iterator[None]:
        """Draw a progress bar, on a terminal only and of several photos."""
        from tqdm import tqdm

        if photos < 2 or not self.errors.isatty():
            yield
            return
        with tqdm(total=photos, unit="photo", file=self.errors) as self._bar:
            yield
        self._bar = None

    def restored(self, source: str, result: Restoration, files: list[Path]) -> None:
        """Count a photo, and say what was found and written: the result first, then its faces."""
        self.tally.restored += 1
        seconds = sum(result.seconds.values())
        parts = ", ".join([*_particulars(result), result.found(), f"{seconds:.1f} s"])
        self._photo_line(f"{source}: {parts} -> {files[0]}", self.output)

    def failed(self, source: Path | str, text: str) -> None:
        """Count a photo that could not be restored, and say why."""
        self.tally.failed += 1
        self._photo_line(f"{source}: FAILED: {text}", self.errors)

    def line(self, text: str) -> None:
        """Write a line of the requested output to stdout."""
        self._line(text, self.output)

    def note(self, text: str) -> None:
        """Write a message about the whole run to stderr."""
        self._line(text, self.errors)

    def page(self, path: Path) -> None:
        """Write the path of the page that shows the run."""
        self._line(f"report: {path}", self.output)

    def closing(self) -> None:
        """Write the counts of the whole run in one line."""
        self._line(str(self.tally), self.output)

    def _photo_line(self, text: str, stream: Stream) -> None:
        self._line(text, stream)
        if self._bar is not None:
            self._bar.update()

    def _line(self, text: str, stream: Stream) -> None:
        if self._bar is not None:
            self._bar.clear()
        stream.write(printable(text) + "\n")
        stream.flush()
        if self._bar is not None:
            self._bar.refresh()


def exit_status(work: Callable[[], int], report: Report, advice: str = "") -> int:
    """Call `work` and return its exit status: 1 after an error that it raised, 130 after Ctrl-C.

    Both are reported, `InputError` and `WeightsError` alone of errors; `advice` ends the line about
    Ctrl-C.
    """
    try:
        return work()
    except (InputError, WeightsError) as error:
        report.note(error_text(error))
        return 1
    except KeyboardInterrupt:
        report.note(f"interrupted: {report.tally}{advice}")
        return INTERRUPTED


def _particulars(result: Restoration) -> Iterator[str]:
    """Yield what the user may not expect, with the option that changes it."""
    if result.pages > 1:
        yield f"page {result.page} of {result.pages} (--page chooses)"
    profile = result.metadata.profile
    if profile and "srgb" not in profile.lower():
        yield f"{profile} colors made sRGB"
    if result.is_interlaced:
        yield "interlaced (--deinterlace removes the comb)"
    if result.is_scale_limited:
        yield f"scale {result.scale:g}, the largest that fits"


def _described_faces(result: Restoration) -> Iterator[dict[str, Any]]:
    """Yield the restored faces; the time that the network took is shared out evenly."""
    seconds = result.seconds.get("restoration", 0.0) / max(1, len(result.faces))
    for number, face in enumerate(result.faces):
        described = described_face(face, *result.damages[number : number + 1])
        for blend in result.blends[number : number + 1]:
            described["blend"] = blend
        for upscaled in result.upscaled[number : number + 1]:
            described["upscaled"] = upscaled
        yield described | {"seconds": round(seconds, 4)}


class JsonReport(Report):
    """Reports each photo as a line of JSON on the standard output."""

    def restored(self, source: str, result: Restoration, files: list[Path]) -> None:
        """Count a photo, and describe its result."""
        self.tally.restored += 1
        height, width = result.image.shape[:2]
        described = {
            "input": str(source),
            "output": str(files[0]),
            "saved_faces": [str(path) for path in files[1:]],
            "width": width,
            "height": height,
            "scale": result.scale,
            "page": result.page,
            "pages": result.pages,
            "interlaced": result.is_interlaced,
            "taken": result.metadata.taken,
            "camera": result.metadata.device,
            "color_profile": result.metadata.profile,
            "faces": list(_described_faces(result)),
            "left_alone": [
                described_face(one.face) | {"reason": one.reason} for one in result.left_alone
            ],
            "seconds": result.seconds,
        }
        self._photo_line(json.dumps(described), self.output)

    def failed(self, source: Path | str, text: str) -> None:
        """Count a photo that could not be restored, and say why."""
        self.tally.failed += 1
        self._photo_line(json.dumps({"input": str(source), "error": text}), self.output)

    def page(self, path: Path) -> None:
        """Write the path of the page that shows the run."""
        self._line(json.dumps({"report": str(path)}), self.output)

    def closing(self) -> None:
        """Write the counts of the whole run as a line of JSON."""
        tally = self.tally
        counts = {"restored": tally.restored, "failed": tally.failed, "not_tried": tally.not_tried}
        line = json.dumps({**counts, "passed_over": dict(tally.passed_over)})
        self._line(line, self.output)
