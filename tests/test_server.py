"""The real Cog HTTP server, started as in production, given what clients send."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import http_api
import numpy as np
import pytest
from cog_server import (
    LEAKS,
    Server,
    app_folder,
    data_url,
    encoded,
    error_of,
    file_host,
    output,
    random_releases,
    run_example,
)
from conftest import HANG_S, png_header
from PIL import Image

from gfpgan_core import geometry, images
from gfpgan_core.images import ImageU8


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """v1.3 and v1.4 as small random networks, behind a local HTTP server."""
    with random_releases(tmp_path_factory.mktemp("releases")) as table:
        yield table


@pytest.fixture(scope="module")
def server(releases: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = app_folder(tmp_path_factory.mktemp("app"))
    environment = {
        "TEST_RELEASES": json.dumps(releases),
        "GFPGAN_WEIGHTS_DIR": str(tmp_path_factory.mktemp("cache")),
    }
    server = Server(folder, "predict_with_test_releases.py:Predictor", environment).ready()
    yield server
    server.stop()


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


def test_16_bit_alpha_and_gray(server: Server, portrait: ImageU8) -> None:
    small = np.asarray(geometry.resize(portrait, (200, 200)), np.uint8)
    wide = small[..., 1].astype(np.uint16) * 257
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    photo, metrics, _ = output(server.predict(buffer.getvalue(), scale=2))
    assert photo.rgb.shape == (400, 400, 3) and images.is_gray(photo.rgb) and metrics["faces"] == 1
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


def test_the_answer_holds_what_the_user_may_not_expect(server: Server, two_faces: ImageU8) -> None:
    pages = [Image.fromarray(two_faces), Image.fromarray(two_faces[::-1])]
    data = encoded(two_faces, "TIFF", save_all=True, append_images=pages)
    answer = server.predict(data, scale=1, only_center_face=True)
    _, metrics, _ = output(answer)
    assert (metrics["pages"], metrics["scale"], metrics["left_alone"]) == (3, 1, 1)
    logs = answer.json()["logs"]
    assert "page 1 of 3 was restored" in logs and "1 face, 1 left alone (1 not chosen)" in logs


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
        (good, {"version": "v1.2"}, ("can't use the weights", "another version", "`compact`")),
    ]
    for data, inputs, texts in cases:
        response = server.predict(data, **inputs)
        assert response.status_code in (200, 422), response.text
        for text in texts:
            assert text in error_of(response), (inputs, error_of(response))
        assert not LEAKS.search(error_of(response)), error_of(response)
    missing = server.client.post("/predictions", json={"input": {"version": "compact"}})
    assert missing.status_code == 422 and "img" in missing.text
    assert output(server.predict(good, scale=1))[1]["faces"] == 1


# Cog loses a cancellation that comes before the prediction runs: tests wait for this line of ours.
_CROWD_RUNS = "restoring 3200x2400 px"


def _crowd(portrait: ImageU8) -> dict[str, object]:
    """A request that takes long: 48 faces at scale 3."""
    tile = np.asarray(geometry.resize(portrait, (400, 400)), np.uint8)
    data = data_url(encoded(np.tile(tile, (6, 8, 1)), "JPEG"), "image/jpeg")
    return {"img": data, "version": "compact", "background_upsampler": "none", "scale": 3}


def test_a_canceled_prediction_leaves_nothing_and_the_next_is_answered(
    server: Server, portrait: ImageU8
) -> None:
    start = len(server.log.read_text())
    server.start("/predictions/crowd", _crowd(portrait))
    server.wait_for_log(_CROWD_RUNS, start)
    assert server.client.post("/predictions/crowd/cancel").status_code == 200
    server.wait_for_log("Prediction cancelled", start)
    assert server.files() == []
    assert output(server.predict(encoded(portrait), scale=1))[1]["faces"] == 1


def test_a_client_that_goes_away_ends_its_prediction_and_leaves_nothing(
    server: Server, portrait: ImageU8
) -> None:
    start = len(server.log.read_text())
    server.wait_until_free()
    with server.send_and_keep("/predictions", _crowd(portrait)):
        server.wait_for_log(_CROWD_RUNS, start)
    server.wait_for_log("Prediction cancelled", start)
    assert server.files() == []


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/no-such-file",
        "predict.py",
        ".",
        "../../etc/passwd",
        "file:///etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
        "ftp://127.0.0.1/face.jpg",
    ],
)
def test_paths_are_not_read_whether_they_exist_or_not(server: Server, path: str) -> None:
    refused = error_of(server.predict(path))
    assert refused == error_of(server.predict("/nowhere/at/all"))
    assert "img must be the address of a file" in refused and path not in refused


def test_an_empty_img_is_called_empty(server: Server) -> None:
    assert "img is empty" in error_of(server.predict(""))


def test_a_photo_is_fetched_from_an_address_or_one_text_says_it_can_not(
    server: Server, portrait: ImageU8, tmp_path: Path
) -> None:
    """The same text for what is missing, cut, or behind a closed port: no map of the network."""
    (tmp_path / "face one.jpg").write_bytes(encoded(portrait, "JPEG"))
    (tmp_path / "large.jpg").write_bytes(bytes(9 << 20))
    with file_host(tmp_path) as address:
        photo, _, _ = output(server.predict(f"{address}/face%20one.jpg?token=1", scale=1))
        assert photo.format == "jpg" and photo.rgb.shape == (512, 512, 3)
        missing = error_of(server.predict(f"{address}/no.jpg"))
        assert "more than the allowed 8 MiB" in error_of(server.predict(f"{address}/large.jpg"))
    assert "can't be fetched from the address" in missing
    assert missing == error_of(server.predict(f"{address}/face%20one.jpg"))  # nobody listens now
    assert server.files() == []


def test_results_are_named_after_their_content_and_only_the_last_is_kept(
    server: Server, portrait: ImageU8
) -> None:
    small = np.asarray(geometry.resize(portrait, (128, 128)), np.uint8)
    names = []
    for image in (small, 255 - small, small):
        data = output(server.predict(encoded(image), scale=1))[2]
        (name,) = server.files()
        assert name == f"restored-{hashlib.sha256(data).hexdigest()[:20]}.png"
        names.append(name)
    assert names[0] == names[2] != names[1]
    error_of(server.predict("/etc/passwd"))
    assert server.files() == []


def test_the_example_client_waits_for_a_busy_server_and_passes_errors_on(
    server: Server, portrait: ImageU8, tmp_path: Path
) -> None:
    photo = tmp_path / "face.jpg"
    photo.write_bytes(encoded(portrait, "JPEG"))
    start = len(server.log.read_text())
    server.start("/predictions/busy", _crowd(portrait))
    running = run_example(server, photo, "scale=1", "background_upsampler=none")
    server.wait_for_log(_CROWD_RUNS, start)
    assert server.client.post("/predictions/busy/cancel").status_code == 200
    out, _ = running.communicate()
    assert running.returncode == 0, out
    assert (tmp_path / "face_restored.jpg").read_bytes()[:2] == b"\xff\xd8"
    running = run_example(server, photo, "scale=99")
    out, _ = running.communicate()
    assert running.returncode == 1 and "scale: 99.0 is greater than the maximum of 8" in out
    assert "Traceback" not in out


def test_the_documented_requests_work_as_they_stand(
    server: Server, portrait: ImageU8, tmp_path: Path
) -> None:
    """But for addresses."""
    small = np.asarray(geometry.resize(portrait, (256, 256)), np.uint8)
    (tmp_path / "photo.jpg").write_bytes(encoded(small, "JPEG"))
    cog = {"http://127.0.0.1:5000": f"http://127.0.0.1:{server.port}"}
    send, by_address = http_api.blocks("A photo")
    server.wait_until_free()
    http_api.run(send, tmp_path, cog)
    restored = (tmp_path / "restored.jpg").read_bytes()
    assert images.decode(restored).rgb.shape == (512, 512, 3)
    server.wait_until_free()
    with file_host(tmp_path) as files:
        answer = http_api.run(by_address, tmp_path, cog | {"https://example.org": files})
    assert base64.b64decode(json.loads(answer)["output"].split(",")[1]) == restored
    (wait_less,) = http_api.blocks("Without waiting: a webhook")
    server.wait_until_free()
    with http_api.webhook() as (hook, received):
        http_api.run(wait_less, tmp_path, cog | {"http://127.0.0.1:5001": hook})
        body = received.get(timeout=HANG_S)
    assert body["id"] == "photo-1" and body["status"] == "succeeded"
    assert base64.b64decode(body["output"].split(",")[1]) == restored


def test_replicates_client_gets_the_picture(
    server: Server, portrait: ImageU8, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("replicate", reason="needs the package replicate, which is no dependency")
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(encoded(portrait, "JPEG"))
    (code,) = http_api.blocks("Replicate's Python client", "python")
    server.wait_until_free()
    with http_api.replicate_api(f"http://127.0.0.1:{server.port}") as address:
        monkeypatch.setenv("REPLICATE_BASE_URL", address)
        monkeypatch.setenv("REPLICATE_API_TOKEN", "none")
        exec(compile(code, "http_api.md", "exec"), {})
    assert images.read_rgb(Path("restored_by_client.jpg")).shape == (1024, 1024, 3)


def test_a_killed_workers_files_go_when_the_server_is_started_again_and_all_on_sigterm(
    portrait: ImageU8, tmp_path: Path
) -> None:
    """Cog starts no second worker: whoever runs the server does, as a restart policy would."""
    folder = app_folder(tmp_path)
    first = Server(folder, "predict.py:Predictor").ready()
    output(first.predict(encoded(portrait), scale=1))
    assert len(first.files()) == 1
    os.kill(first.worker(), signal.SIGKILL)
    first.wait_for_log("worker crashed")
    status = first.client.get("/health-check").json()["status"]
    first.stop()
    assert status != "READY" and len(first.files()) == 1

    second = Server(folder, "predict.py:Predictor").ready()
    assert second.files() == []
    output(second.predict(encoded(portrait), scale=1))
    assert len(second.files()) == 1
    os.kill(second.worker(), signal.SIGTERM)  # as the whole group gets it from systemd
    second.wait_for_log("worker crashed")
    assert list(second.temporary.glob("gfpgan-*")) == []
    second.stop()
