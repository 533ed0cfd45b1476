from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SAMPLE, random_network
from torch import nn

import gfpgan_core
from gfpgan_core import geometry, images, pipeline
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import load_detector
from gfpgan_core.errors import CropFailedError, InputError
from gfpgan_core.images import ImageU8, Photo
from gfpgan_core.images.incoming import AnyPhoto
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.result import Restoration


@pytest.fixture(scope="module")
def restorer() -> FaceRestorer:
    """A random network: what it does to a face is ugly, and visible."""
    return FaceRestorer(random_network(3).eval(), load_detector("centerface"))


@pytest.fixture(scope="module")
def compact() -> FaceRestorer:
    return gfpgan_core.FaceRestorer.from_release("compact", device="cpu")


@pytest.mark.parametrize("scale", [0.5, 1, 1.5, 2, 2.7])
def test_result_size_is_exact_for_any_input(
    restorer: FaceRestorer, portrait: ImageU8, scale: float
) -> None:
    for height, width in ((512, 512), (301, 257), (97, 143)):
        photo = np.asarray(geometry.resize(portrait, (width, height)), np.uint8)
        result = restorer.restore(photo, RestoreOptions(scale=scale))
        assert result.image.shape == (round(height * scale), round(width * scale), 3)


def test_only_faces_change_and_all_of_them(restorer: FaceRestorer, two_faces: ImageU8) -> None:
    result = restorer.restore(two_faces, RestoreOptions(scale=1))
    changed = np.abs(result.image.astype(int) - two_faces).max(axis=2)
    assert len(result.faces) == len(result.crops) == len(result.restored_crops) == 2
    for face in result.faces:
        x, y = face.landmarks[2].astype(int)
        assert changed[y - 20 : y + 20, x - 20 : x + 20].max() > 20
    assert changed[450:, :60].max() == 0


def test_faces_can_be_chosen(restorer: FaceRestorer, two_faces: ImageU8) -> None:
    everyone = restorer.restore(two_faces, RestoreOptions(scale=1)).faces
    (largest,) = restorer.restore(two_faces, RestoreOptions(scale=1, faces="largest")).faces
    (center,) = restorer.restore(two_faces, RestoreOptions(scale=1, faces="center")).faces
    sizes = [face.eye_distance_px for face in everyone]
    assert largest.eye_distance_px == max(sizes)
    middle = [abs(face.landmarks[:, 0].mean() - 450) for face in everyone]
    assert abs(center.landmarks[:, 0].mean() - 450) == min(middle)
    limit = RestoreOptions(scale=1, min_eye_distance_px=max(sizes) - 0.1)
    limited = restorer.restore(two_faces, limit)
    assert len(limited.faces) == 1
    assert [one.reason for one in limited.left_alone] == ["too small"]


def test_blend_zero_changes_nothing_and_half_lies_between(
    restorer: FaceRestorer, portrait: ImageU8
) -> None:
    images_of = {
        blend: restorer.restore(portrait, RestoreOptions(scale=1, blend=blend)).image.astype(int)
        for blend in (0.0, 0.5, 1.0)
    }
    assert np.array_equal(images_of[0.0], portrait)
    between = (images_of[0.0] + images_of[1.0]) / 2
    assert np.abs(images_of[0.5] - between).max() <= 1
    assert np.abs(images_of[1.0] - portrait).max() > 20


def test_the_same_photo_gives_the_same_bytes(restorer: FaceRestorer, portrait: ImageU8) -> None:
    first = restorer.restore(portrait).image
    assert np.array_equal(first, restorer.restore(portrait).image)


def test_a_gray_photo_stays_gray(restorer: FaceRestorer, portrait: ImageU8) -> None:
    gray = np.repeat(portrait[..., 1:2], 3, axis=2)
    for aligned in (False, True):
        result = restorer.restore(gray, RestoreOptions(scale=1, aligned=aligned)).image
        assert (result[..., 0] == result[..., 1]).all() and (result[..., 1] == result[..., 2]).all()


def test_alpha_is_kept_and_scaled(restorer: FaceRestorer, portrait: ImageU8) -> None:
    alpha = np.zeros((512, 512), np.uint8)
    alpha[:, 256:] = 255
    result = restorer.restore(Photo(portrait, alpha, "webp"), RestoreOptions(scale=2))
    assert result.alpha is not None and result.alpha.shape == (1024, 1024)
    assert result.alpha[:, :500].max() <= 1 and result.alpha[:, 524:].min() >= 254
    assert result.format_for("auto") == "png"


def test_no_face_gives_the_enlarged_photo(restorer: FaceRestorer) -> None:
    photo = np.random.default_rng(0).integers(100, 140, (60, 90, 3), dtype=np.uint8)
    result = restorer.restore(photo, RestoreOptions(scale=2))
    assert result.faces == []
    assert np.array_equal(result.image, geometry.resize(photo, (180, 120)))


def test_aligned_restores_the_whole_crop(restorer: FaceRestorer, portrait: ImageU8) -> None:
    result = restorer.restore(portrait, RestoreOptions(scale=1, aligned=True))
    assert result.image.shape == (512, 512, 3)
    assert np.abs(result.image[:20].astype(int) - portrait[:20]).max() > 20
    with pytest.raises(InputError, match="an aligned face is square"):
        restorer.restore(portrait[:300], RestoreOptions(aligned=True))


class _Broken(nn.Module):
    """A network whose output is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.config = random_network(0).config

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        return lq * torch.nan


def test_a_face_that_failed_is_never_returned_as_restored(portrait: ImageU8) -> None:
    restorer = FaceRestorer(_Broken(), load_detector("centerface"))  # type: ignore[arg-type]
    with pytest.raises(CropFailedError, match="not finite"):
        restorer.restore(portrait)


def test_inputs_are_not_modified(restorer: FaceRestorer, portrait: ImageU8) -> None:
    before = portrait.copy()
    restorer.restore(portrait, RestoreOptions(scale=1))
    assert np.array_equal(portrait, before)


@pytest.mark.parametrize("array", [np.zeros((50, 50), np.uint8), np.zeros((50, 50, 3), np.float32)])
def test_other_arrays_are_refused(restorer: FaceRestorer, array: np.ndarray) -> None:
    with pytest.raises(InputError, match="must be RGB: uint8"):
        restorer.restore(array)


def test_times_are_told_for_each_part(restorer: FaceRestorer, portrait: ImageU8) -> None:
    seconds = restorer.restore(portrait).seconds
    assert set(seconds) == {"detection", "restoration", "background", "blending"}
    assert all(value > 0 for value in seconds.values())


def test_compact_brings_the_sample_nearer_to_the_original(
    compact: FaceRestorer, portrait: ImageU8, tmp_path: Path
) -> None:
    result = compact.restore(SAMPLE, RestoreOptions(scale=1))
    degraded = images.read_rgb(SAMPLE).astype(float)
    (face,) = result.faces
    left, top, right, bottom = face.box_xyxy.astype(int)
    box = np.s_[top:bottom, left:right]
    before = np.square(degraded[box] - portrait[box]).mean()
    after = np.square(result.image[box].astype(float) - portrait[box]).mean()
    print(f"\nface of the sample: {10 * np.log10(before / after):.2f} dB nearer to the original")
    assert after < before
    assert result.save(tmp_path / "restored.webp").is_file()
    with pytest.raises(InputError, match=r"restored\.gif: results are written with .* \.png, "):
        result.save(tmp_path / "restored.gif")


def test_a_device_that_isnt_there_is_named() -> None:
    with pytest.raises(InputError, match="device 'cuda:9' can't be used"):
        FaceRestorer.from_release("compact", device="cuda:9")


def test_many_photos_come_back_in_order_with_the_errors_of_those_that_failed(
    restorer: FaceRestorer, portrait: ImageU8, two_faces: ImageU8, tmp_path: Path
) -> None:
    empty = np.full((80, 90, 3), 100, np.uint8)
    (tmp_path / "text.jpg").write_text("no photo")
    photos: list[AnyPhoto] = [
        portrait,
        tmp_path / "text.jpg",
        two_faces,
        empty,
        tmp_path / "absent.png",
    ]
    found = list(restorer.restore_many(photos, RestoreOptions(scale=1)))
    assert "text.jpg is no image" in str(found[1]) and "can't be read" in str(found[4])
    for photo, result in ((portrait, found[0]), (two_faces, found[2]), (empty, found[3])):
        assert isinstance(result, Restoration)
        assert np.array_equal(result.image, restorer.restore(photo, RestoreOptions(scale=1)).image)


class _Watched(nn.Module):
    """Gives the input back, but nothing finite for a dark face; notes its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.config = random_network(0).config
        self.batches: list[int] = []

    def forward(self, lq: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(lq))
        dark = lq.mean(dim=(1, 2, 3), keepdim=True) < -0.5
        return torch.where(dark, torch.nan, lq)


def test_faces_of_several_photos_share_batches_and_one_that_fails_fails_alone(
    portrait: ImageU8, two_faces: ImageU8, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "CPU_BATCH_FACES", 3)
    network = _Watched()
    restorer = FaceRestorer(network, load_detector("centerface"))  # type: ignore[arg-type]
    network.batches.clear()
    restorer.run = network
    list(restorer.restore_many([portrait, two_faces, portrait]))
    assert network.batches == [3, 1]
    dark = np.asarray(portrait // 6 + 1, np.uint8)
    monkeypatch.setattr(
        restorer,
        "detector",
        SimpleNamespace(find=lambda image, _: load_detector("centerface").find(portrait)),
    )
    results = list(restorer.restore_many([portrait, dark, portrait]))
    assert [type(result) for result in results] == [Restoration, CropFailedError, Restoration]
