"""The command line: `gfpgan`, or `python -m gfpgan_core`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from gfpgan_core.cli import INTERRUPTED

# How the loader says that a library doesn't fit, or may not be run from where it is.
_UNMAPPED = "failed to map segment from shared object"
_LIMIT = (
    ": `ulimit -v` says how much this process may use; it should be unlimited, or 8 GB and more"
)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, 1 if anything failed, 2 for a misuse, 130 after Ctrl-C."""
    _fill_standard_streams()
    try:
        with _second_interrupt_kills():
            return _run(arguments)
    except KeyboardInterrupt:  # before the command was there to say more
        with contextlib.suppress(OSError):
            print("interrupted", file=sys.stderr, flush=True)
        return INTERRUPTED
    except MemoryError:
        print(f"there is not enough memory{_LIMIT}", file=sys.stderr)
        return 1
    except ImportError as error:
        if _UNMAPPED not in str(error):
            raise
        text = f"a library can't be loaded: {error}{_LIMIT}, and its folder not be mounted noexec"
        print(text, file=sys.stderr)
        return 1


def _run(arguments: list[str] | None) -> int:
    """Import what the command needs, which takes a while: Ctrl-C may come meanwhile."""
    from gfpgan_core.cli.parser import make_parser

    options = make_parser().parse_args(arguments)
    if options.command == "fetch":
        from gfpgan_core.cli.fetch import fetch

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
    if options.command == "export":
        from gfpgan_core.cli.export import export

        return export(options)
    from gfpgan_core.cli.restore import restore

    return restore(options)


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
