"""Restore a photo on a server of this project, over HTTP.

    python examples/http_client.py photo.jpg version=compact scale=2

The answer's picture is written beside the photo, as photo_restored.jpg. Only `requests` is needed.
"""

from __future__ import annotations

import argparse
import base64
import mimetypes
import sys
import time
from pathlib import Path
from typing import Any

import requests

# 409: the server is busy (it restores one photo at a time, and is free a moment after each answer);
# 503: it is starting. Both pass, and asking again changes nothing: same request, same picture.
_TRY_AGAIN = (409, 503)
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 2.0


class RestorationFailedError(Exception):
    """The server refused the request or failed; its text says why."""


def restore(
    photo: bytes, server: str, inputs: dict[str, str | float | bool], patience_s: float = 600
) -> tuple[bytes, str]:
    """Return the restored photo and its media type.

    Args:
        photo: The file's bytes: JPEG, PNG, WebP, BMP, TIFF, GIF, HEIC or AVIF.
        server: Address, such as http://127.0.0.1:5000.
        inputs: The others of the server's inputs; see its /docs or openapi.json.
        patience_s: How long to ask again while the server is busy, starting or away.

    Raises:
        RestorationFailedError: with the server's own text.
    """
    data = f"data:application/octet-stream;base64,{base64.b64encode(photo).decode()}"
    body = _ask(f"{server}/predictions", {"input": {"img": data, **inputs}}, patience_s)
    if body.get("status") != "succeeded":
        raise RestorationFailedError(_text(body))
    output = str(body["output"])
    if output.startswith("data:"):
        header, _, encoded = output.partition(",")
        return base64.b64decode(encoded), header[len("data:") :].partition(";")[0]
    answer = requests.get(output, timeout=60)  # a server with an upload address sends a link
    answer.raise_for_status()
    return answer.content, answer.headers.get("Content-Type", "image/png")


def _ask(url: str, request: Any, patience_s: float) -> dict[str, object]:
    deadline = time.monotonic() + patience_s
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            answer = requests.post(url, json=request, timeout=patience_s)
            if answer.status_code not in _TRY_AGAIN or time.monotonic() > deadline:
                return dict(answer.json())
        except requests.ConnectionError as error:  # being started again, perhaps
            if time.monotonic() > deadline:
                raise RestorationFailedError(f"{url} can't be reached: {error}") from error
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, _LONGEST_WAIT_S)


def _text(body: dict[str, object]) -> str:
    """Return what a failed prediction or a refused input (422) says, without Cog's prefixes."""
    details = body.get("detail")
    if isinstance(details, list):
        return "; ".join(f"{'.'.join(map(str, d['loc'][2:]))}: {d['msg']}" for d in details)
    text = str(body.get("error") or details or "the server gave no reason")
    return text.replace("Prediction failed: ", "").removeprefix("InputError: ")


def _inputs(pairs: list[str]) -> dict[str, str | float | bool]:
    """Return name=value pairs with numbers and booleans as such."""
    values: dict[str, str | float | bool] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if value in ("true", "false"):
            values[name] = value == "true"
        else:
            try:
                values[name] = float(value)
            except ValueError:
                values[name] = value
    return values


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("inputs", nargs="*", help="name=value, such as scale=2")
    parser.add_argument("--server", default="http://127.0.0.1:5000")
    arguments = parser.parse_args()
    photo: Path = arguments.photo
    try:
        inputs = _inputs(arguments.inputs)
        data, media_type = restore(photo.read_bytes(), arguments.server, inputs)
    except (RestorationFailedError, OSError) as error:
        print(f"{photo}: {error}", file=sys.stderr)
        return 1
    suffix = {"image/jpeg": ".jpg"}.get(media_type) or mimetypes.guess_extension(media_type)
    target = photo.with_name(f"{photo.stem}_restored{suffix or '.png'}")
    target.write_bytes(data)
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
