"""Send a server thousands of good, bad, canceled and broken requests while its worker is killed.

    python -m scripts.soak [--requests 2000] [--clients 8] [--kills 5]

Every answer must be the picture that the library makes of the same photo, or a clear error; the
same request must give the same bytes; memory must stay level; nothing may stay in the temporary
folder.

Cog starts no new worker where one was killed, and its server goes on and refuses everything. This
script then starts the server anew, as whoever runs one must have it done (a restart on a failed
health check). Requests that meet the gap are sent again, as examples/http_client.py does.
"""

from __future__ import annotations

import argparse
import base64
import collections
import contextlib
import hashlib
import json
import math
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import requests

from gfpgan_core import images
from scripts.process_memory import process_memory_mib
from scripts.serve import command, environment, write_schema
from scripts.soak_cases import Case, bad_cases, good_cases, make_plan

_ROOT = Path(__file__).parent.parent
_WAIT_S = 0.1
_PATIENCE_S = 300  # for one request; longer is a hang
_WARM_UP = 0.25  # share of the last worker's requests that its memory may still grow in
_MAX_GROWTH_MIB = 40

_PASSING = ("Worker crashed", "Failed to send request")  # no fault of the request's own


class Server:
    """The server's process, started again after its worker was killed."""

    def __init__(self, port: int, temporary: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._environment = environment(port) | {"TMPDIR": str(temporary)}
        self._log = (temporary.parent / "server.log").open("w")
        self.starts = 0
        self.start()

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.process = subprocess.Popen(
            command(), cwd=_ROOT, env=self._environment, stdout=self._log, stderr=self._log
        )
        self.starts += 1
        deadline = time.monotonic() + _PATIENCE_S
        while self.status() not in ("READY", "BUSY"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise SystemExit(f"the server doesn't start: see {self._log.name}")
            time.sleep(_WAIT_S)

    def status(self) -> str:
        """Return what the health check says, or AWAY while nobody answers."""
        with contextlib.suppress(requests.RequestException):
            answer = requests.get(f"{self.address}/health-check", timeout=_PATIENCE_S)
            return str(answer.json()["status"])
        return "AWAY"

    def worker(self) -> int:
        """Return the id of the process that predicts, or 0."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = status.read_text().rpartition(")")[2].split()[1]
                if int(parent) == self.process.pid:
                    return int(status.parent.name)
        return 0

    def memory_mib(self) -> float:
        """Return the worker's memory; nan while there is none."""
        worker = self.worker()
        return process_memory_mib(worker) if worker else math.nan

    def kill_worker_and_restart(self) -> str:
        """Kill the worker; return what the health check says then; start the server anew."""
        os.kill(self.worker(), signal.SIGKILL)
        deadline = time.monotonic() + _PATIENCE_S
        while (status := self.status()) in ("READY", "BUSY") and time.monotonic() < deadline:
            time.sleep(_WAIT_S)
        self.stop()
        self.start()
        return status

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait(_PATIENCE_S)


class Soak:
    """All clients' work and what came of it."""

    def __init__(self, server: Server, plan: list[tuple[str, Case]], kills: int) -> None:
        self.server = server
        self.plan = plan
        # In the first half, so that one worker's memory is watched over the second.
        self.kill_at = {len(plan) // 2 * (i + 1) // (kills + 1) for i in range(kills)}
        self.lock = threading.Lock()
        self.next = 0
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.memory: list[tuple[int, float]] = []
        self.statuses: collections.Counter[str] = collections.Counter()
        self.senders: dict[str, Callable[[requests.Session, Case, int], None]] = {
            "good": self._good,
            "bad": self._bad,
            "canceled": self._canceled,
            "disconnected": self._disconnected,
        }

    def client(self) -> None:
        """Send requests of the plan until none is left."""
        session = requests.Session()
        while (number := self._take()) is not None:
            kind, case = self.plan[number]
            try:
                self.senders[kind](session, case, number)
            except Exception as error:  # a client that dies silently would hide a fault
                self._fault(f"{kind} {number}: {type(error).__name__}: {error}")
            if number in self.kill_at:
                with self.lock:
                    self.statuses[self.server.kill_worker_and_restart()] += 1
            if number % 20 == 0:
                self.memory.append((number, self.server.memory_mib()))
            if number % 200 == 0:
                print(f"request {number}: {len(self.faults)} faults so far", flush=True)

    def _take(self) -> int | None:
        with self.lock:
            self.next += 1
            return self.next - 1 if self.next <= len(self.plan) else None

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        print("FAULT", text[:500], flush=True)

    def _ask(self, session: requests.Session, case: Case) -> tuple[int, dict[str, Any]]:
        """Return status and body of the answer; ask again while the server is busy or away."""
        address, request = f"{self.server.address}/predictions", {"input": case.inputs}
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(requests.ConnectionError):
                answer = session.post(address, json=request, timeout=_PATIENCE_S)
                body = dict(answer.json())
                passing = str(body.get("error", "")).endswith(_PASSING)
                if answer.status_code not in (409, 503) and not passing:
                    return answer.status_code, body
                self.counts["Worker crashed" if passing else str(answer.status_code)] += 1
            if time.monotonic() > deadline:
                raise TimeoutError("no answer")
            time.sleep(_WAIT_S * (1 + random.random()))

    def _good(self, session: requests.Session, case: Case, number: int) -> None:
        _, body = self._ask(session, case)
        if body.get("status") != "succeeded":
            return self._fault(f"good {number} refused: {body.get('error')}")
        data = base64.b64decode(body["output"].split(",", 1)[1])
        case.digests.add(hashlib.sha256(data).hexdigest())
        picture = images.decode(data).rgb
        assert case.picture is not None
        if picture.shape != case.picture.shape:
            return self._fault(f"good {number}: {picture.shape}, not {case.picture.shape}")
        difference = np.abs(picture.astype(int) - case.picture)
        # JPEG and WebP lose something; a wrong picture is off by far more.
        if difference.max() > 1 if case.exact else difference.mean() > 6:
            self._fault(f"good {number}: off by {difference.max()}, mean {difference.mean():.1f}")
        return None

    def _bad(self, session: requests.Session, case: Case, number: int) -> None:
        status, body = self._ask(session, case)
        text = str(body.get("error") or json.dumps(body.get("detail")))
        if body.get("status") == "succeeded" or case.error not in text.replace('\\"', '"'):
            self._fault(f"bad {number}: {status} {text}, without {case.error!r}")

    def _canceled(self, session: requests.Session, case: Case, number: int) -> None:
        """Start one under its name and cancel it a moment later."""
        address = f"{self.server.address}/predictions/soak-{os.getpid()}-{number}"
        request, head = {"input": case.inputs}, {"Prefer": "respond-async"}
        for _ in range(20):  # then it is left: the other clients keep the slot
            with contextlib.suppress(requests.ConnectionError):
                started = session.put(address, json=request, headers=head, timeout=_PATIENCE_S)
                if started.status_code == 202:
                    time.sleep(random.random() * 0.3)
                    session.post(f"{address}/cancel", timeout=_PATIENCE_S)
                    self.counts["canceled"] += 1
                    return
            time.sleep(_WAIT_S)

    def _disconnected(self, _: requests.Session, case: Case, number: int) -> None:
        """Send one and go away, after all of it or half of it."""
        body = json.dumps({"input": case.inputs}).encode()
        head = f"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        sent = head.encode() + b"Content-Type: application/json\r\n\r\n" + body
        host, port = self.server.address.removeprefix("http://").split(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port))) as client:
            client.sendall(sent if number % 2 else sent[: len(sent) // 2])
            time.sleep(random.random() * 0.2)
            self.counts["disconnected"] += 1


def memory_levels(memory: list[tuple[int, float]], count: int) -> tuple[float, float, float]:
    """Return the last worker's memory after warm-up and at the end (medians), and its peak, MiB."""
    last = [(number, mib) for number, mib in sorted(memory) if number >= count // 2 and mib == mib]
    warm = [mib for number, mib in last if number >= count * (0.5 + 0.5 * _WARM_UP)]
    quarter = max(1, len(warm) // 4)
    return statistics.median(warm[:quarter]), statistics.median(warm[-quarter:]), max(warm)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--kills", type=int, default=5)
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    write_schema()
    good, bad = good_cases(), bad_cases(closed_port=9)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        temporary = Path(folder) / "tmp"
        temporary.mkdir()
        server = Server(port, temporary)
        plan = make_plan(arguments.requests, good, bad)
        soak = Soak(server, plan, arguments.kills)
        started = time.monotonic()
        threads = [threading.Thread(target=soak.client) for _ in range(arguments.clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - started
        server.stop()
        left = sorted(p.name for p in temporary.rglob("*") if p.is_file())
    return report(soak, good, seconds, left)


def report(soak: Soak, good: list[Case], seconds: float, left: list[str]) -> int:
    """Print what happened; return the exit status: 1 if anything was wrong."""
    kinds = collections.Counter(kind for kind, _ in soak.plan)
    several = sum(len(case.digests) > 1 for case in good)
    begin, end, peak = memory_levels(soak.memory, len(soak.plan))
    print(f"{len(soak.plan)} requests in {seconds:.0f} s: {dict(kinds)}")
    print(f"server started {soak.server.starts} times; after a kill it said {dict(soak.statuses)}")
    print(f"sent again or broken off on purpose: {dict(soak.counts)}")
    print(f"wrong or unclear answers: {len(soak.faults)}")
    print(f"requests that gave different bytes: {several} of {len(good)}")
    print(f"worker's memory: {begin:.0f} MiB after warm-up, {end:.0f} at the end, peak {peak:.0f}")
    print(f"left in the temporary folder: {left or 'nothing'}")
    wrong = bool(soak.faults or several or left or end - begin > _MAX_GROWTH_MIB)
    print("FAILED" if wrong else "passed")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
