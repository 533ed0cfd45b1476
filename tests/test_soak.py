"""That the soak run finds what it looks for: a server that errs, forgets, grows or leaves files."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cog_server import data_url, encoded

from gfpgan_core.images import ImageU8
from scripts.soak import Server, Soak, report
from scripts.soak_cases import Case, make_plan

_PICTURE: ImageU8 = np.full((20, 20, 3), (10, 90, 200), np.uint8)


class _Answers:
    """A server in place of Cog's, which answers with what it is told."""

    starts = 1

    def __init__(self, body: dict[str, Any], memory_mib: float = 100) -> None:
        self.bodies = [body]
        self.grows_mib, self.now_mib = 0.0, memory_mib
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                data = json.dumps(outer.bodies[0]).encode()
                outer.bodies = outer.bodies[1:] or outer.bodies
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def memory_mib(self) -> float:
        self.now_mib += self.grows_mib
        return self.now_mib


def _good(picture: ImageU8) -> dict[str, Any]:
    return {"status": "succeeded", "output": data_url(encoded(picture))}


@pytest.fixture
def answers() -> Iterator[_Answers]:
    server = _Answers(_good(_PICTURE))
    yield server
    server.http.shutdown()
    server.http.server_close()


def _soak(answers: _Answers, case: Case, kind: str = "good", left: tuple[str, ...] = ()) -> int:
    """The exit status of a run of 200 times the same request by one client."""
    server: Server = answers  # type: ignore[assignment]
    soak = Soak(server, [(kind, case)] * 200, kills=0)
    soak.client()
    return report(soak, [case], 1.0, list(left))


def _case() -> Case:
    return Case({"img": "x"}, _PICTURE)


def test_right_answers_pass(answers: _Answers) -> None:
    assert _soak(answers, _case()) == 0


def test_a_wrong_picture_fails(answers: _Answers) -> None:
    answers.bodies = [_good(_PICTURE), _good(_PICTURE + 2)]
    assert _soak(answers, _case()) == 1


def test_other_bytes_of_the_same_picture_fail(answers: _Answers) -> None:
    again = {"status": "succeeded", "output": data_url(encoded(_PICTURE, compress_level=0))}
    answers.bodies = [_good(_PICTURE), again]
    assert _soak(answers, _case()) == 1


def test_a_refused_good_request_and_an_unclear_error_fail(answers: _Answers) -> None:
    answers.bodies = [{"status": "failed", "error": "KeyError: 3"}]
    assert _soak(answers, _case()) == 1
    assert _soak(answers, Case({}, error="paths are not read"), "bad") == 1
    assert _soak(answers, Case({}, error="KeyError"), "bad") == 0


def test_growing_memory_and_left_files_fail(answers: _Answers) -> None:
    assert _soak(answers, _case(), left=("photo.jpg",)) == 1
    answers.grows_mib = 30
    assert _soak(answers, _case()) == 1


def test_a_plan_is_mixed_and_the_same_each_time() -> None:
    plan = make_plan(1000, [_case()], [Case({}, error="x")])
    kinds = [kind for kind, _ in plan]
    assert 650 < kinds.count("good") < 750 and 30 < kinds.count("canceled") < 70
    assert kinds == [kind for kind, _ in make_plan(1000, [_case()], [Case({}, error="x")])]
