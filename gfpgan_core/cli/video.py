"""`gfpgan video`: a video in, a video with restored faces out."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfpgan_core.cli import INTERRUPTED
from gfpgan_core.cli.record import weights_recorded
from gfpgan_core.cli.report import Report
from gfpgan_core.cli.restore import load_restorer
from gfpgan_core.cli.results import check_writable
from gfpgan_core.config import RestoreOptions, parse_faces
from gfpgan_core.errors import CropFailedError, InputError, WeightsError, error_text
from gfpgan_core.files import sha256_of, whole_file
from gfpgan_core.runtime import configure_process
from gfpgan_core.video.packages import require_av

if TYPE_CHECKING:
    from gfpgan_core.video.restoring import Outcome
    from gfpgan_core.video.source import Video

_MAX_CRF = 51.0

# What the frames depend on, beside the video and the weights.
_SETTINGS = (
    *("version", "scale", "background", "blend", "faces", "min_eye_distance", "max_eye_distance"),
    *("min_score", "detector", "mask", "backend", "crf", "upscale_faces"),
)


def video(options: argparse.Namespace) -> int:
    """Return the exit status: 0, 1 after an error, 130 after Ctrl-C."""
    report = Report()
    advice = "the same command with --resume goes on"
    try:
        return _restore(options, report)
    except (InputError, WeightsError, CropFailedError) as error:
        report.note(error_text(error))
        return 1
    except OSError as error:
        report.note(f"{options.output} can't be written: {error.strerror or error}; {advice}")
        return 1
    except KeyboardInterrupt:
        report.note(f"interrupted; {advice}")
        return INTERRUPTED


def _restore(options: argparse.Namespace, report: Report) -> int:
    started = time.monotonic()
    require_av()
    wanted = _restore_options(options)
    source, output = Path(options.input), Path(options.output)
    if _is_done_before(source, output, options):
        report.line(f"{output} is there already, and left as it is")
        return 0
    configure_process()  # before torch is imported
    from gfpgan_core.video.segment_folder import open_segment_folder
    from gfpgan_core.video.segments import CONTAINERS, check_output, join
    from gfpgan_core.video.source import scan

    if output.suffix.lower() not in CONTAINERS:
        raise InputError(f"the output is {output.name}; allowed: names in {', '.join(CONTAINERS)}")
    container = CONTAINERS[output.suffix.lower()]
    found = scan(source)
    left_out = check_output(found, wanted.output_size_wh(*found.size_wh), container)
    for remark in _remarks(found, wanted, left_out):
        report.note(f"{source}: {remark}")
    settings = _settings(options, source)
    with open_segment_folder(
        output, settings, resume=options.resume, overwrite=options.overwrite
    ) as work:
        with _progress(found.frames, report) as on_frame:
            outcome = _restore_segments(options, wanted, found, work, on_frame)
        parts = [work.timed(number) for number in range(work.done())]
        try:
            with whole_file(output, replace=options.overwrite) as temporary:
                join(found, parts, temporary, container, keep_gps=options.keep_gps)
        except FileExistsError as error:
            raise _in_the_way(output) from error
        work.drop_segments()
    report.line(f"{source}: {_summary(outcome)}, {time.monotonic() - started:.1f} s -> {output}")
    return 0


def _restore_segments(
    options: argparse.Namespace,
    wanted: RestoreOptions,
    found: Video,
    work: Any,
    on_frame: Callable[[], object],
) -> Outcome:
    """Load the networks, and restore the segments that aren't done yet."""
    from gfpgan_core.video.restoring import restore_video
    from gfpgan_core.video.segments import Encoding

    size_wh = wanted.output_size_wh(*found.size_wh)
    colors = found.colors.written(found.size_wh[1], size_wh[1])
    encoding = Encoding(colors, found.rate, found.pixel_aspect, options.crf)
    restorer = load_restorer(options)
    return restore_video(restorer, found, work, wanted, encoding, on_frame=on_frame)


def _restore_options(options: argparse.Namespace) -> RestoreOptions:
    """Return what is done with each frame.

    Raises:
        InputError: a value that is not allowed.
    """
    most = options.max_eye_distance
    if not 0 <= options.crf <= _MAX_CRF:
        raise InputError(f"crf is {options.crf:g}; allowed: 0 (lossless) to {_MAX_CRF:g}")
    if options.blend == "auto":
        raise InputError(
            "--blend auto would change from frame to frame, and flicker: give a number, 0 to 1"
        )
    faces = parse_faces(options.faces)
    if isinstance(faces, tuple):
        raise InputError(
            "faces are numbered in one picture, and move in a video: --faces all, largest or center"
        )
    return RestoreOptions(
        scale=options.scale,
        blend=options.blend,
        background=options.background,
        upscale_faces=options.upscale_faces,
        faces=faces,
        min_eye_distance_px=options.min_eye_distance,
        max_eye_distance_px=math.inf if most is None else most,
        min_score=options.min_score,
    )


def _is_done_before(source: Path, output: Path, options: argparse.Namespace) -> bool:
    """Return whether `--resume` finds the video whole.

    Raises:
        InputError: the output is a folder, the video itself, or in the way, or can't be written.
    """
    if not source.exists():
        raise InputError(f"{source} is no file: name a video on this machine")
    if output.is_dir():
        raise InputError(f"{output} is a folder: name the file that is to be written")
    check_writable(output.parent)
    if not os.path.lexists(output):
        return False
    if output.exists() and source.samefile(output):
        raise InputError(f"{output} is the video itself: name another file")
    if options.resume and not options.overwrite:
        return True
    if not options.overwrite:
        raise _in_the_way(output)
    return False


def _in_the_way(output: Path) -> InputError:
    return InputError(f"{output} exists: --overwrite replaces it")


def _settings(options: argparse.Namespace, source: Path) -> dict[str, Any]:
    """Return what kept work depends on, for its folder."""
    from gfpgan_core.video.restoring import SEGMENT_FRAMES

    settings = {name: getattr(options, name) for name in _SETTINGS} | weights_recorded(options)
    return {"video": sha256_of(source), "segment_frames": SEGMENT_FRAMES, **settings}


@contextmanager
def _progress(frames: int, report: Report) -> Iterator[Callable[[], object]]:
    """Draw a progress bar, on a terminal only; yield what a frame calls."""
    from tqdm import tqdm

    shown = report.errors.isatty()
    with tqdm(total=frames, unit="frame", file=report.errors, disable=not shown) as bar:
        yield bar.update


def _remarks(video: Video, options: RestoreOptions, left_out: list[str]) -> Iterator[str]:
    """Yield sentences on what the user may not expect."""
    width, height = options.output_size_wh(*video.size_wh)
    if video.bits > 8:
        yield f"its {video.bits} bits a sample become 8"
    if video.is_interlaced:
        yield "it is interlaced, and its combs stay: deinterlace it first"
    if video.pixel_aspect and video.pixel_aspect != 1:
        yield (
            f"its pixels are not square ({video.pixel_aspect}): faces are restored as they are"
            " stored, stretched; resize it to square pixels first for better ones"
        )
    if width % 2 or height % 2:
        yield (
            f"the result has {width + width % 2}x{height + height % 2} px in place of"
            f" {width}x{height}: H.264 needs even sides, and the last row or column is repeated"
        )
    if left_out:
        yield f"left out, as the output can't hold it: {', '.join(left_out)}"


def _summary(outcome: Outcome) -> str:
    faces = len(outcome.tracks)
    followed = f"{faces} face{'s' * (faces != 1)} followed"
    return f"{outcome.frames} frames, {outcome.with_faces} with faces, {followed}"
