"""Photos in folders and archives, their degraded twins, their boxes: without surprises."""

from __future__ import annotations

import itertools
import json
import shutil
import tarfile
from pathlib import Path

import lmdb
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from gfpgan_core import geometry, images
from gfpgan_core.detect import load_detector
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from train import components
from train.augmentation import AugmentationConfig
from train.dataset import FaceDataset, Sample, StepSampler, collate, load_face
from train.degradation_config import DegradationConfig
from train.faces import Faces, open_faces
from train.prepare import prepare_faces


def _dataset(faces: Path) -> FaceDataset:
    return FaceDataset(open_faces(faces), DegradationConfig(), face_size_px=64, seed=7)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_data_doesnt_depend_on_workers_or_interruption(faces: Path, workers: int) -> None:
    def batches(first: int, count: int, workers: int) -> list[Sample]:
        sampler = StepSampler(3, first, count)
        return list(
            DataLoader(
                _dataset(faces), batch_sampler=sampler, num_workers=workers, collate_fn=collate
            )
        )

    whole = batches(0, 6, 0)
    resumed = batches(4, 6, workers)
    for expected, found in zip(whole[4:], resumed, strict=True):
        assert torch.equal(expected.lq, found.lq) and torch.equal(expected.gt, found.gt)


def test_an_epoch_shows_every_face_once_and_degrades_it_anew_in_the_next(faces: Path) -> None:
    plain = FaceDataset(
        open_faces(faces),
        DegradationConfig(grey_probability=0),
        face_size_px=64,
        seed=7,
        augmentation=AugmentationConfig(flip=False),
    )
    first, second = ([plain[5 * epoch + i] for i in range(5)] for epoch in (0, 1))
    for epoch in (first, second):
        assert len({sample.gt.sum().item() for sample in epoch}) == 5
    lq = {sample.lq.sum().item() for sample in first + second}
    assert len(lq) == 10


def test_flips_are_whole_and_change_no_file(faces: Path) -> None:
    source = open_faces(faces)
    one = Faces(source.path, source.kind, source.names[:1])
    gt = images.to_pm1(load_face(one, one.names[0], 64))
    dataset = FaceDataset(one, DegradationConfig(grey_probability=0), face_size_px=64, seed=1)
    seen = [dataset[k].gt for k in range(12)]
    flipped = [torch.equal(sample, gt.flip(-1)) for sample in seen]
    assert all(f or torch.equal(sample, gt) for f, sample in zip(flipped, seen, strict=True))
    assert 2 <= sum(flipped) <= 10  # 8: drawn from fixed seeds, the same on every processor


def test_unusable_folders_and_faces_are_named(tmp_path: Path, portrait: ImageU8) -> None:
    with pytest.raises(InputError, match="is no folder"):
        open_faces(tmp_path / "none")
    with pytest.raises(InputError, match="holds no image"):
        open_faces(tmp_path)
    images.write(tmp_path / "wide.png", images.encode(portrait[:100], None, "png"))
    with pytest.raises(InputError, match=r"512x100 px; training takes square"):
        load_face(open_faces(tmp_path), "wide.png", 64)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_processes_and_micro_batches_share_a_step(accumulation: int) -> None:
    """Together they see what one process sees, and no sample twice."""
    whole = list(StepSampler(8, 3, 5))
    parts = [
        list(StepSampler(8, 3, 5, process=p, processes=2, accumulation=accumulation))
        for p in (0, 1)
    ]
    for step, numbers in enumerate(whole):
        micros = [
            micro
            for part in parts
            for micro in part[step * accumulation : (step + 1) * accumulation]
        ]
        assert sorted(itertools.chain(*micros)) == numbers
        assert {len(micro) for micro in micros} == {8 // 2 // accumulation}
        # The batch deviation of one process groups n, n + parts, ...: the same samples.
        assert all(np.ptp(np.diff(micro)) == 0 for micro in micros)


def test_archives_and_lmdb_give_what_the_folder_gives(faces: Path, tmp_path: Path) -> None:
    names = [path.name for path in sorted(faces.glob("*.png"))]
    shutil.make_archive(str(tmp_path / "faces"), "zip", faces)
    with tarfile.open(tmp_path / "faces.tar.gz", "w:gz") as archive:
        for name in names:
            archive.add(faces / name, name)
    with (
        lmdb.open(str(tmp_path / "faces.lmdb"), map_size=2**24) as base,
        base.begin(write=True) as transaction,
    ):
        for name in names:
            transaction.put(name.encode(), (faces / name).read_bytes())
    folder = open_faces(faces)
    for source in ("faces.zip", "faces.tar.gz", "faces.lmdb"):
        found = open_faces(tmp_path / source)
        assert found.names == folder.names
        datasets = [
            FaceDataset(f, DegradationConfig(), face_size_px=64, seed=3) for f in (folder, found)
        ]
        loader = DataLoader(
            datasets[1], batch_sampler=StepSampler(2, 0, 3), num_workers=2, collate_fn=collate
        )
        for step, batch in enumerate(loader):
            expected = collate([datasets[0][2 * step], datasets[0][2 * step + 1]])
            assert torch.equal(batch.lq, expected.lq) and torch.equal(batch.boxes, expected.boxes)


BOXES = np.array([[100.0, 120.0, 20.0], [300.0, 125.0, 25.0], [200.0, 330.0, 50.0]])


def test_flipping_boxes_twice_is_the_identity_and_changes_nothing_given() -> None:
    before = BOXES.copy()
    flipped = components.flip_boxes(BOXES, 512)
    assert np.array_equal(BOXES, before)
    assert np.array_equal(components.flip_boxes(flipped, 512), BOXES)
    assert flipped[0].tolist() == [511 - 300, 125, 25]  # the right eye is on the left now


def test_flips_change_neither_files_nor_cached_boxes(faces: Path) -> None:
    """Upstream edits its boxes in place, so that the second read of a flipped face is wrong."""
    source = open_faces(faces)
    table = {name: BOXES.copy() for name in source.names}
    dataset = FaceDataset(source, DegradationConfig(), face_size_px=64, seed=1, boxes=table)
    plain = torch.from_numpy(components.scale_boxes(BOXES, 512, 64)).float()
    mirrored = torch.from_numpy(
        components.flip_boxes(components.scale_boxes(BOXES, 512, 64), 64)
    ).float()
    seen = [dataset[k].boxes for k in range(30)]
    kinds = [torch.equal(boxes, mirrored) for boxes in seen]
    assert all(kind or torch.equal(boxes, plain) for kind, boxes in zip(kinds, seen, strict=True))
    assert 5 < sum(kinds) < 25  # 19: drawn from fixed seeds, the same on every processor
    assert all(np.array_equal(boxes, BOXES) for boxes in table.values())
    assert all(torch.equal(dataset[k].boxes, boxes) for k, boxes in enumerate(seen))


@pytest.mark.parametrize("size_px", [64, 128, 512])
def test_component_crops_are_where_the_boxes_say_at_any_face_size(size_px: int) -> None:
    """A ramp: a crop's middle has the center's value, and its ends those of the box's edges."""
    x = torch.arange(size_px, dtype=torch.float32)
    ramp = torch.stack([x.expand(size_px, size_px), x[:, None].expand(size_px, size_px)])
    image = torch.cat([ramp, ramp[:1]])[None]
    boxes = components.scale_boxes(BOXES, 512, size_px)
    crops = components.crop_components(image, torch.from_numpy(boxes).float()[None])
    sides = {"left_eye": 80, "right_eye": 80, "mouth": 120}
    for (cx, cy, half), (name, crop) in zip(boxes, crops.items(), strict=True):
        side = max(8, round(sides[name] * size_px / 512))
        assert crop.shape == (1, 3, side, side)
        assert crop[0, 0].mean().item() == pytest.approx(cx, abs=0.02)
        assert crop[0, 1].mean().item() == pytest.approx(cy, abs=0.02)
        width = crop[0, 0, 0, -1] - crop[0, 0, 0, 0]
        assert width.item() == pytest.approx(2 * half * (side - 1) / side, rel=1e-3)


def test_template_boxes_hold_the_eyes_and_mouth_of_a_real_face(portrait: ImageU8) -> None:
    """What CenterFace finds in the aligned portrait lies in the template's boxes."""
    detector = load_detector("centerface")
    (face,) = detector(portrait)
    crop_from_image = geometry.fit_to_template(face.landmarks, 512)
    points = geometry.apply(crop_from_image, face.landmarks)
    boxes = components.template_boxes()
    for (cx, cy, half), point in zip(boxes[:2], points[:2], strict=True):
        assert np.abs(point - (cx, cy)).max() < half / 2
    cx, cy, half = boxes[2]
    # The corners lie 1.7 px inside; what another processor's sums change is below 0.01 px.
    assert np.abs(points[3:] - (cx, cy)).max() < half


def test_boxes_are_read_from_our_own_upstreams_and_ffhqs_files(tmp_path: Path) -> None:
    components.save_boxes(tmp_path / "components.json", {"a.png": BOXES})
    table = components.load_boxes(tmp_path / "components.json")
    assert np.array_equal(table["a.png"], BOXES)
    assert components.boxes_of("sub/a.png", table) is not None
    assert components.boxes_of("b.png", table) is None

    theirs = {
        "00000007": {
            name: list(row)  # of numpy's numbers, as upstream's script writes them
            for name, row in zip(components.NAMES, BOXES, strict=True)
        }
    }
    torch.save(theirs, tmp_path / "boxes.pth")
    found = components.boxes_of("00000007.png", components.load_boxes(tmp_path / "boxes.pth"))
    assert found is not None and found[2].tolist() == BOXES[2].tolist()
    assert found[0].tolist() == pytest.approx([100, 120, 28])

    points = np.zeros((68, 2))
    # The template at FFHQ's own 1024 px: edges meet edges.
    left, right, nose, *corners = geometry.TEMPLATE_LANDMARKS * 2 + 0.5
    points[36:42], points[42:48], points[30], points[48], points[54] = left, right, nose, *corners
    ffhq = {"3": {"image": {"face_landmarks": points.tolist()}}}
    (tmp_path / "ffhq.json").write_text(json.dumps(ffhq))
    found = components.boxes_of("00003.png", components.load_boxes(tmp_path / "ffhq.json"))
    assert found is not None and np.allclose(found, components.template_boxes())

    (tmp_path / "bad.json").write_text('{"a.png": {"nose": [1, 2, 3]}}')
    with pytest.raises(InputError, match=r"bad.json can't be read as component boxes"):
        components.load_boxes(tmp_path / "bad.json")


def test_photos_become_aligned_faces_with_boxes(
    tmp_path: Path, portrait: ImageU8, two_faces: ImageU8
) -> None:
    """A portrait, two faces in one photo, an aligned face, and three that are refused."""
    photos = tmp_path / "photos"
    photos.mkdir()
    detector = load_detector("centerface")
    (face,) = detector(portrait)
    crop_from_image = geometry.fit_to_template(face.landmarks, 512)
    aligned = geometry.warp(portrait, crop_from_image, (512, 512))
    pictures = {
        "aligned": aligned,
        "couple": two_faces,
        "empty": np.full((200, 300, 3), 90, np.uint8),
        "small": np.asarray(geometry.resize(portrait, (128, 128)), np.uint8),
    }
    for name, picture in pictures.items():
        images.write(photos / f"{name}.png", images.encode(picture, None, "png"))
    (photos / "text.jpg").write_bytes(b"Dear sir or madam")
    result = prepare_faces(
        sorted(photos.iterdir()), tmp_path / "faces", detector, min_eye_distance_px=25
    )
    names = [path.name for path in result.faces]
    assert names == ["aligned.png", "couple.png", "couple_1.png"]
    assert {path.name for path in result.refused} == {"empty.png", "small.png", "text.jpg"}
    summary = result.summary()
    assert "3 usable faces" in summary and "no face found (empty.png)" in summary
    assert "too small" in summary and "is no image" in summary
    kept = images.read_rgb(tmp_path / "faces" / "aligned.png")
    assert np.array_equal(kept, aligned)  # its pixels, not resampled
    table = components.load_boxes(tmp_path / "faces" / "components.json")
    assert set(table) == set(names)
    for boxes in table.values():
        assert np.abs(boxes - components.template_boxes()).max() < 25
