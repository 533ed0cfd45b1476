"""The real Cog HTTP server, started as in production, given what clients send."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, png_header, random_network
from PIL import Image

from gfpgan_core import geometry, images
from gfpgan_core.images import ImageU8

_START_TIMEOUT_S = 60


class Server:
    """A Cog server process over a copy of the predictor."""

    def __init__(
        self, folder: Path, stub: str, environment: dict[str, str], mode: str = "predict"
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cog.server.http", "--x-mode", mode],
            cwd=folder,
            env=os.environ
            | environment
            | {
                f"COG_{mode.upper()}_TYPE_STUB": stub,
                "PORT": str(self.port),
                "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
                "CUDA_VISIBLE_DEVICES": "",
                # The server starts its worker as `python`: let that be the tests' own.
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                status = self.client.get("/health-check").json()["status"]
            except httpx.TransportError:
                status = "STARTING"
            if status == "READY":
                return
            if status not in ("STARTING", "UNKNOWN") or self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise AssertionError("the server doesn't start:\n" + Path(self.log.name).read_text())

    def predict(
        self, img: bytes, media_type: str = "image/png", **inputs: object
    ) -> httpx.Response:
        data = f"data:{media_type};base64,{base64.b64encode(img).decode()}"
        values = {"img": data, "version": "compact", "background_upsampler": "none"} | inputs
        # 409: the one slot is still busy; it is freed a moment after the answer before was sent.
        deadline = time.monotonic() + 20
        while True:
            response = self.client.post("/predictions", json={"input": values})
            if response.status_code != 409 or time.monotonic() > deadline:
                return response
            time.sleep(0.1)

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def app_folder(folder: Path) -> Path:
    """A folder as `cog build` leaves it in the image: predictor and input schema."""
    shutil.copy(ROOT / "predict.py", folder)
    shutil.copy(ROOT / "tests" / "serving" / "predict_with_test_releases.py", folder)
    command = [sys.executable, "-m", "scripts.write_openapi_schema", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="module")
def release_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """v1.3 and v1.4 as small random networks, behind a local HTTP server."""
    folder = tmp_path_factory.mktemp("releases")
    handler = functools.partial(_QuietHandler, directory=str(folder))
    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    table = {}
    for seed, version in enumerate(("v1.3", "v1.4")):
        path = folder / f"GFPGAN{version}.pth"
        # `residual` can't be read off an official file: the table says it, as for a release.
        torch.save({"params_ema": random_network(seed).state_dict()}, path)
        file = {
            "name": path.name,
            "url": f"http://127.0.0.1:{host.server_port}/{path.name}",
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "licence": "none",
        }
        config = dataclasses.asdict(dataclasses.replace(TINY, residual=True))
        table[version] = {"file": file, "config": config}
    yield table
    host.shutdown()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server(
    release_host: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    folder = app_folder(tmp_path_factory.mktemp("app"))
    environment = {
        "TEST_RELEASES": json.dumps(release_host),
        "GFPGAN_WEIGHTS_DIR": str(tmp_path_factory.mktemp("cache")),
    }
    server = Server(folder, "predict_with_test_releases.py:Predictor", environment)
    yield server
    server.stop()


def encoded(pixels: ImageU8, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def output(response: httpx.Response) -> tuple[images.Photo, dict[str, Any], bytes]:
    body = response.json()
    assert response.status_code == 200 and body["status"] == "succeeded", body
    data = base64.b64decode(body["output"].split(",", 1)[1])
    return images.decode(data), body["metrics"], data


def _error(response: httpx.Response) -> str:
    body = response.json()
    assert body.get("status", "failed") == "failed", body
    return str(body.get("error") or body.get("detail"))


@pytest.mark.parametrize(
    ("kind", "media_type", "file_format"),
    [
        ("PNG", "image/png", "png"),
        ("JPEG", "image/jpg", "jpg"),
        ("JPEG", "image/jpeg", "jpg"),
        ("WEBP", "image/webp", "webp"),
        ("PNG", "application/octet-stream", "png"),
    ],
)
def test_formats_are_read_by_content_and_come_back(
    server: Server, portrait: ImageU8, kind: str, media_type: str, file_format: str
) -> None:
    photo, metrics, _ = output(server.predict(encoded(portrait, kind), media_type, scale=1))
    assert photo.format == file_format
    assert photo.rgb.shape == (512, 512, 3)
    assert metrics["faces"] == 1
    for part in ("detection", "restoration", "background", "blending"):
        assert metrics[f"{part}_seconds"] >= 0


def test_16_bit_alpha_and_grey(server: Server, portrait: ImageU8) -> None:
    small = np.asarray(geometry.resize(portrait, (200, 200)), np.uint8)
    wide = small[..., 1].astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    photo, metrics, _ = output(server.predict(buffer.getvalue(), scale=2))
    assert photo.rgb.shape == (400, 400, 3) and photo.is_grey and metrics["faces"] == 1
    assert np.ptp(photo.rgb) > 150  # not clipped to white

    rgba = np.dstack([small, np.full((200, 200), 90, np.uint8)])
    photo, _, _ = output(server.predict(encoded(rgba, "WEBP", lossless=True), "image/webp"))
    assert photo.format == "png" and photo.alpha is not None and (photo.alpha == 90).all()


def test_two_faces_one_and_none(server: Server, two_faces: ImageU8) -> None:
    _, metrics, _ = output(server.predict(encoded(two_faces), scale=1))
    assert metrics["faces"] == 2
    _, metrics, _ = output(server.predict(encoded(two_faces), scale=1, only_center_face=True))
    assert metrics["faces"] == 1
    empty = np.full((50, 70, 3), (10, 90, 200), np.uint8)
    photo, metrics, _ = output(server.predict(encoded(empty), scale=2))
    assert metrics["faces"] == 0
    assert photo.rgb.shape == (100, 140, 3) and (photo.rgb == (10, 90, 200)).all()


@pytest.mark.parametrize("scale", [1, 1.5, 2, 4])
def test_scale_is_exact_for_small_images_too(
    server: Server, portrait: ImageU8, scale: float
) -> None:
    small = np.asarray(geometry.resize(portrait, (151, 201)), np.uint8)
    photo, _, _ = output(server.predict(encoded(small), scale=scale, output_format="png"))
    assert photo.rgb.shape == (round(201 * scale), round(151 * scale), 3)


def test_switching_versions_and_back_gives_the_first_bytes(
    server: Server, portrait: ImageU8
) -> None:
    data = encoded(portrait)
    results = [
        output(server.predict(data, version=version, scale=1))[2]
        for version in ("v1.4", "v1.3", "compact", "v1.4", "v1.3")
    ]
    assert len(set(results)) == 3
    assert results[0] == results[3] and results[1] == results[4]


def test_blend_and_aligned(server: Server, portrait: ImageU8) -> None:
    photo, _, _ = output(server.predict(encoded(portrait), scale=1, blend=0, version="v1.4"))
    assert np.array_equal(photo.rgb, portrait)
    photo, metrics, _ = output(server.predict(encoded(portrait), aligned=True, scale=1.5))
    assert photo.rgb.shape == (768, 768, 3) and metrics["faces"] == 0


def test_bad_input_gets_a_clear_error_and_the_server_stays_up(
    server: Server, portrait: ImageU8
) -> None:
    good = encoded(portrait)
    jpeg = encoded(portrait, "JPEG")
    cases: list[tuple[bytes, dict[str, Any], tuple[str, ...]]] = [
        (good, {"version": "v9"}, ("version", "v1.4")),
        (good, {"scale": 0}, ("scale", "0.25")),
        (good, {"scale": 99}, ("scale", "8")),
        (good, {"scale": "big"}, ("scale",)),
        (good, {"blend": 2}, ("blend", "1")),
        (good, {"background_upsampler": "magic"}, ("background_upsampler", "realesrgan-x4v3")),
        (good, {"output_format": "tga"}, ("output_format", "webp")),
        (b"Dear sir or madam", {}, ("img is no image", "JPEG")),
        (jpeg[: len(jpeg) // 2], {}, ("img is damaged or cut off",)),
        (b"", {}, ("0 bytes",)),
        (encoded(np.zeros((1, 1, 3), np.uint8)), {}, ("1x1 px", "at least 16 px")),
        (png_header(30_000, 30_000), {}, ("at most 64 megapixels",)),
        (encoded(portrait[:300]), {"aligned": True}, ("512x300 px", "square")),
        (good, {"version": "v1.2"}, ("GFPGANv1.2.pth", "349 MB", "https://github.com", "compact")),
    ]
    for data, inputs, texts in cases:
        response = server.predict(data, **inputs)
        assert response.status_code in (200, 422), response.text
        for text in texts:
            assert text in _error(response), (inputs, _error(response))
        assert "Traceback" not in _error(response)
    missing = server.client.post("/predictions", json={"input": {"version": "compact"}})
    assert missing.status_code == 422 and "img" in missing.text
    assert output(server.predict(good, scale=1))[1]["faces"] == 1


def test_a_prediction_can_be_cancelled(server: Server, portrait: ImageU8) -> None:
    """48 faces at scale 3 take long; that is cancelled, and the next photo is answered."""
    tile = np.asarray(geometry.resize(portrait, (400, 400)), np.uint8)
    crowd = np.tile(tile, (6, 8, 1))
    data = "data:image/jpeg;base64," + base64.b64encode(encoded(crowd, "JPEG")).decode()
    values = {"img": data, "version": "compact", "background_upsampler": "none", "scale": 3}
    started = server.client.put(
        "/predictions/crowd", json={"input": values}, headers={"Prefer": "respond-async"}
    )
    assert started.status_code == 202
    time.sleep(1)
    assert server.client.post("/predictions/crowd/cancel").status_code == 200
    assert output(server.predict(encoded(portrait), scale=1))[1]["faces"] == 1
    assert "Prediction cancelled" in Path(server.log.name).read_text()


def test_own_weights_serve_every_request(
    tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory, portrait: ImageU8
) -> None:
    from gfpgan_core import FaceRestorer, RestoreOptions

    folder = app_folder(tmp_path_factory.mktemp("own"))
    server = Server(folder, "predict.py:Predictor", {"COG_WEIGHTS": str(tiny_weights)})
    try:
        photo, _, _ = output(server.predict(encoded(portrait), version="v1.4", scale=1))
    finally:
        server.stop()
    restorer = FaceRestorer.from_file(tiny_weights, device="cpu", detector="centerface")
    expected = restorer.restore(portrait, RestoreOptions(scale=1)).image
    assert np.abs(photo.rgb.astype(int) - expected).max() <= 1
