"""The command line: `gfpgan`, or `python -m gfpgan_core`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from gfpgan_core.cli.export import export
from gfpgan_core.cli.fetch import fetch
from gfpgan_core.cli.parser import make_parser
from gfpgan_core.cli.report import INTERRUPTED
from gfpgan_core.cli.restore import restore


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, 1 if anything failed, 2 for a misuse, 130 after Ctrl-C."""
    _fill_standard_streams()
    options = make_parser().parse_args(arguments)
    try:
        with _second_interrupt_kills():
            return _run(options)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    if options.command == "fetch":
        return fetch(options.names)
    if options.command == "batch":  # numpy, which the other commands begin without
        from gfpgan_core.cli.batch import batch

        return batch(options)
    if options.command == "video":
        from gfpgan_core.cli.video import video

        return video(options)
    if options.command == "serve-page":
        from gfpgan_core.cli.serve_page import serve_page

        return serve_page(options)
    return export(options) if options.command == "export" else restore(options)


def _fill_standard_streams() -> None:
    """Open a closed stdin, stdout or stderr to nowhere: else the next file gets its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


@contextlib.contextmanager
def _second_interrupt_kills() -> Iterator[None]:
    """Turn the first Ctrl-C into `KeyboardInterrupt`; the next ends the process at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    is_ours = threading.current_thread() is threading.main_thread() and (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if is_ours:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
