"""Start, feed, watch and kill the process that restores photos."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from gfpgan_core.batch.packages import python_path
from gfpgan_core.batch.settings import Settings
from gfpgan_core.errors import WeightsError


class ProcessDiedError(Exception):
    """The process that restores photos died, or reported nothing for too long."""


class RestoringProcess:
    """A running `gfpgan_core.batch.child`, and the events that it reports."""

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        """Start the process; it loads the networks in the background.

        Args:
            settings: The networks, and what is done with each photo.
            timeout_s: After this time without an event the process counts as dead.
        """
        self._timeout_s = timeout_s
        self._is_ready = self._is_silent = False
        own = {"PYTHONPATH": python_path(), "OMP_NUM_THREADS": str(settings.threads)}
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "gfpgan_core.batch.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | own,
            text=True,
            start_new_session=True,  # Ctrl-C is handled by the parent
        )
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._write(settings.to_json())

    def restore(self, photos: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Send photos to the process; yield its events: see `gfpgan_core.batch.child`.

        Raises:
            ProcessDiedError: the process died, or reported nothing for `timeout_s`.
            WeightsError: it can't load the networks.
        """
        if not self._is_ready:
            event = self._next_event()
            if event["event"] == "refused":
                raise WeightsError(event["error"])
            self._is_ready = True
        self._write(json.dumps(photos))
        while (event := self._next_event())["event"] != "end":
            yield event

    def end(self) -> str:
        """Kill the process if it is alive; return how it ended, such as `signal 9`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        status = self._popen.wait()
        if self._is_silent:
            return f"no event for {self._timeout_s:g} s"
        return f"signal {-status}" if status < 0 else f"status {status}"

    def _listen(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with contextlib.suppress(ValueError):  # a line that was cut off when it died
                self._events.put(json.loads(line))
        self._events.put(None)

    def _write(self, line: str) -> None:
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: reading the next event raises
            self._popen.stdin.write(line + "\n")
            self._popen.stdin.flush()

    def _next_event(self) -> dict[str, Any]:
        try:
            event = self._events.get(timeout=self._timeout_s)
        except queue.Empty as error:
            self._is_silent = True
            raise ProcessDiedError from error
        if event is None:
            raise ProcessDiedError
        return event
