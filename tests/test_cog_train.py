"""Fine-tuning over the real Cog server: photos in, weights out, and those serve a photo."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import http_api
import httpx
import numpy as np
import pytest
from cog_server import LEAKS, Server, app_folder, data_url, encoded, error_of, output
from conftest import ROOT, random_network

from gfpgan_core import geometry
from gfpgan_core.images import ImageU8
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.load import load_file
from scripts.process_memory import process_memory_mib


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = app_folder(tmp_path_factory.mktemp("trainer"))
    shutil.copytree(ROOT / "train", folder / "train", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {"OMP_NUM_THREADS": "2"}
    server = Server(folder, "train/cog_train.py:train", environment, mode="train").ready()
    yield server
    server.stop()


def _photos(portrait: ImageU8) -> list[ImageU8]:
    """Five different crops of a real portrait, as a user's phone would hold them."""
    return [np.ascontiguousarray(portrait[: 400 - 10 * i, 40 + 12 * i :]) for i in range(5)]


def _zip(photos: list[ImageU8], **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, photo in enumerate(photos):
            archive.writestr(f"holiday/{number}.jpg", encoded(photo, "JPEG"))
        for name, data in more.items():
            archive.writestr(name.replace("__", "."), data)
    return buffer.getvalue()


def _train(trainer: Server, **inputs: object) -> httpx.Response:
    return trainer.post("/trainings", inputs)


SMALL: dict[str, object] = {
    "base_version": "none",
    "face_size": 64,
    "steps": 3,
    "batch_size": 2,
    "perceptual_weight": 0,
}


def test_photos_become_weights_that_serve_and_are_trained_further(
    trainer: Server, portrait: ImageU8, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    started = time.monotonic()
    archive = data_url(_zip(_photos(portrait), notes__txt=b"not a photo"))
    body = _train(trainer, train_data=archive, **SMALL).json()
    assert body["status"] == "succeeded", body
    assert "5 usable faces" in body["logs"] and "step 3/3: pixel" in body["logs"]
    weights = tmp_path / "first.safetensors"
    weights.write_bytes(base64.b64decode(body["output"]["weights"].split(",", 1)[1]))
    assert load_file(weights).config.face_size_px == 64
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert trainer.files() == [f"weights-{digest[:20]}.safetensors"]
    memory_mib = process_memory_mib(trainer.worker())

    further = {"base_weights": data_url(weights.read_bytes(), "application/octet-stream")}
    body = _train(trainer, train_data=archive, **{**SMALL, "face_size": 0, **further}).json()
    assert body["status"] == "succeeded", body
    second = tmp_path / "second.safetensors"
    second.write_bytes(base64.b64decode(body["output"]["weights"].split(",", 1)[1]))
    assert load_file(second).config == load_file(weights).config
    assert second.read_bytes() != weights.read_bytes()
    # 550 MiB more with each of the first trainings where freed memory was kept.
    assert process_memory_mib(trainer.worker()) - memory_mib < 250

    folder = app_folder(tmp_path_factory.mktemp("serving"))
    server = Server(folder, "predict.py:Predictor", {"COG_WEIGHTS": str(second)}).ready()
    try:
        photo, metrics, _ = output(server.predict(encoded(portrait), scale=1))
    finally:
        server.stop()
    assert photo.rgb.shape == (512, 512, 3) and metrics["faces"] == 1
    assert not np.array_equal(photo.rgb, portrait)
    print(f"\ntwo trainings and a prediction over the server: {time.monotonic() - started:.0f} s")


def test_the_documented_training_works_as_it_stands(
    trainer: Server, portrait: ImageU8, tmp_path: Path
) -> None:
    """But for the port, the network's size and the steps."""
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(_photos(portrait)):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(encoded(photo, "JPEG"))
    (script,) = [block for block in http_api.blocks("A training") if "curl" in block]
    address = {"http://127.0.0.1:5000": f"http://127.0.0.1:{trainer.port}"}
    short = {'"base_version": "compact", "steps": 32': json.dumps(SMALL | {"steps": 1})[1:-1]}
    trainer.wait_until_free()
    http_api.run(script, tmp_path, address | short)
    assert load_file(tmp_path / "own.safetensors").config.face_size_px == 64


def test_few_photos_that_are_sent_several_times_are_trained_with(
    trainer: Server, portrait: ImageU8
) -> None:
    archive = data_url(_zip([portrait] * 4))
    body = _train(trainer, train_data=archive, **SMALL).json()
    assert body["status"] == "succeeded", body
    assert "1 usable face\n3 passed over: copies of other photos" in body["logs"]


def test_bad_trainings_say_what_is_wrong(
    trainer: Server, portrait: ImageU8, tmp_path: Path
) -> None:
    good = data_url(_zip(_photos(portrait)))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        link = tarfile.TarInfo("face.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    empty = np.full((200, 200, 3), 90, np.uint8)
    few = data_url(_zip([*_photos(portrait)[:2], empty], broken__jpg=b"Dear sir"))
    network = tmp_path / "tiny.safetensors"
    save_safetensors(random_network(0), network)
    tiny = data_url(network.read_bytes(), "application/octet-stream")
    cases: list[tuple[dict[str, object], tuple[str, ...]]] = [
        ({"train_data": data_url(b"Dear sir or madam")}, ("is no zip or tar",)),
        ({"train_data": data_url(_zip([empty], **{"____/evil__png": b"x"}))}, ("leads out",)),
        ({"train_data": data_url(tar.getvalue(), "application/x-tar")}, ("a link or device",)),
        (
            {"train_data": few},
            ("at least 4", "2 usable faces", "1 refused: no face found", ": 1 not an image"),
        ),
        (
            {"train_data": data_url(_zip([], a__txt=b"-", b__mp4=b"-", __DS_Store=b"-"))},
            ("holds no photo that can be read (3 passed over: 2 not images, 1 hidden)", "JPEG"),
        ),
        ({"train_data": good, "steps": 0}, ("steps", "1")),
        ({"train_data": good, "base_version": "v9"}, ("base_version", "v1.4")),
        (
            {"train_data": good, "base_weights": tiny, "face_size": 128},
            ("face_size is 128", "64 px"),
        ),
        ({"train_data": good, "base_weights": data_url(b"junk")}, ("can't be read as weights",)),
    ]
    for inputs, texts in cases:
        error = error_of(_train(trainer, **{**SMALL, **inputs}))
        for text in texts:
            assert text in error, (texts, error)
        assert not LEAKS.search(error), error
        assert trainer.files() == []


def test_a_training_that_diverges_says_what_to_change(trainer: Server, portrait: ImageU8) -> None:
    good = data_url(_zip(_photos(portrait)))
    error = error_of(_train(trainer, **{**SMALL, "train_data": good, "pixel_weight": 1e38}))
    assert "grew without bounds: lower learning_rate" in error and not LEAKS.search(error)
    assert trainer.files() == []


@pytest.mark.parametrize("name", ["train_data", "base_weights"])
def test_paths_are_not_read_and_nothing_of_a_file_is_quoted(
    trainer: Server, portrait: ImageU8, name: str
) -> None:
    inputs = {**SMALL, "train_data": data_url(_zip(_photos(portrait)))}
    texts = {
        error_of(_train(trainer, **{**inputs, name: path}))
        for path in ("/etc/passwd", "/etc/no-such-file", "train/cog_train.py", "/dev/zero")
    }
    assert len(texts) == 1 and f"{name} must be the address" in texts.pop()
    assert f"{name} is empty" in error_of(_train(trainer, **{**inputs, name: ""}))
    secret = error_of(_train(trainer, **{**inputs, name: data_url(b"S3CRET of a host inside")}))
    assert "S3" not in secret


def test_a_training_can_be_canceled_within_a_step(trainer: Server, portrait: ImageU8) -> None:
    values = {**SMALL, "train_data": data_url(_zip(_photos(portrait))), "steps": 100_000}
    start = len(trainer.log.read_text())
    trainer.start("/trainings/long", values)
    trainer.wait_for_log("step 1/100000", start)
    assert trainer.client.post("/trainings/long/cancel").status_code == 200
    trainer.wait_for_log("Prediction cancelled", start)
    assert trainer.files() == []
    assert _train(trainer, **{**values, "steps": 1}).json()["status"] == "succeeded"


def test_aligned_faces_in_the_archive_are_kept(portrait: ImageU8) -> None:
    """Nothing is resampled twice: an aligned crop of the face size goes in as it is."""
    from gfpgan_core.detect import load_detector
    from train.prepare import is_aligned

    detector = load_detector("centerface")
    (face,) = detector(portrait)
    crop_from_image = geometry.fit_to_template(face.landmarks, 512)
    crop = geometry.warp(portrait, crop_from_image, (512, 512))
    assert is_aligned(crop, geometry.apply(crop_from_image, face.landmarks))
    assert not is_aligned(portrait, face.landmarks)
