"""What `GFPGANer` takes: models by file, name and address, arguments, background, parts."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import upstream
from conftest import TINY, random_network
from test_download import FileServer
from torch import nn

from gfpgan_core import background, geometry
from gfpgan_core.detect import Detection, load_detector
from gfpgan_core.errors import CropFailedError, InputError, WeightsError
from gfpgan_core.images import ImageU8
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.upstream import GFPGANer, models, parts
from gfpgan_core.weights import hosted
from gfpgan_core.weights.releases import RELEASES, Release, WeightFile

pytestmark = pytest.mark.usefixtures("one_thread")

WIDE = dataclasses.replace(TINY, channel_multiplier=2)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clean") / "net_g.pth"
    torch.save({"params_ema": random_network(3, WIDE).state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def equalized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("equalized") / "net_g.pth"
    network = upstream.generator(
        "original", size=64, channel_multiplier=1, narrow=0.125, style_features=64
    )
    torch.save({"params": network.state_dict()}, path)
    return path


@pytest.mark.parametrize(
    ("file", "arch", "multiplier", "says"),
    [
        ("clean", "original", 2, "holds another network: arch clean"),
        ("clean", "RestoreFormer", 2, "holds another network: arch clean"),
        ("clean", "clean", 1, "channel_multiplier is 1, but net_g.pth holds a network of 2"),
        ("equalized", "clean", 1, "holds another network: arch original"),
        ("equalized", "bilinear", 2, "channel_multiplier is 2, but net_g.pth holds a network of 1"),
        ("clean", "swinir", 2, "arch is 'swinir'; allowed: clean, original, bilinear"),
    ],
)
def test_an_arch_or_multiplier_that_isnt_the_files_is_named(
    clean: Path, equalized: Path, file: str, arch: str, multiplier: int, says: str
) -> None:
    path = {"clean": clean, "equalized": equalized}[file]
    with pytest.raises(InputError, match=says):
        GFPGANer(str(path), arch=arch, channel_multiplier=multiplier, device="cpu")


def test_the_arch_says_how_an_equalized_file_resamples(equalized: Path) -> None:
    original = models.load_network(equalized, "original", 1).config
    assert original == dataclasses.replace(TINY, resampling="fir")
    assert models.load_network(equalized, "bilinear", 1).config == TINY


def test_a_file_that_describes_itself_and_a_version_need_neither(tiny_weights: Path) -> None:
    own = models.load_network(tiny_weights, "clean", 2).config
    assert own == dataclasses.replace(TINY, residual=True)
    compact = models.load_network("compact", "clean", 2).config
    assert compact == RELEASES["compact"].config


@pytest.fixture
def release(clean: Path, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """v1.2 and v1.4 as small files on a local server."""
    monkeypatch.setattr("test_download.CONTENT", clean.read_bytes())
    server = FileServer()
    data = clean.read_bytes()
    for version, name in (("v1.2", "GFPGANv1.2.pth"), ("v1.4", "GFPGANv1.4.pth")):
        digest = hashlib.sha256(data).hexdigest()
        file = WeightFile(name, server.url, len(data), digest, "Apache-2.0")
        monkeypatch.setitem(RELEASES, version, Release(WIDE, file))
    return server


_ADDRESS = "https://github.com/TencentARC/GFPGAN/releases/download"


@pytest.mark.parametrize(
    ("model_path", "cached"),
    [
        ("GFPGANv1.4.pth", "GFPGANv1.4.pth"),
        ("GFPGANCleanv1-NoCE-C2.pth", "GFPGANv1.2.pth"),
        (f"{_ADDRESS}/v1.3.0/GFPGANv1.4.pth", "GFPGANv1.4.pth"),
        (f"{_ADDRESS}/v0.2.0/GFPGANCleanv1-NoCE-C2.pth", "GFPGANv1.2.pth"),
        ("1.4", "GFPGANv1.4.pth"),
    ],
)
def test_an_official_name_or_address_is_fetched_once_into_the_cache(
    release: FileServer, model_path: str, cached: str, tmp_path: Path
) -> None:
    for _ in range(2):
        assert models.load_network(model_path, "clean", 2).config == WIDE
    assert release.requests == 1
    assert (tmp_path / "weights" / cached).is_file()


def test_what_is_missing_in_a_folder_that_is_named_is_fetched_there(
    release: FileServer, tmp_path: Path
) -> None:
    wanted = tmp_path / "gfpgan" / "weights" / "GFPGANCleanv1-NoCE-C2.pth"
    for _ in range(2):
        models.load_network(wanted, "clean", 2)
    assert release.requests == 1 and wanted.is_file()


def test_a_download_that_is_another_file_is_no_model(release: FileServer, tmp_path: Path) -> None:
    release.answers = ["page"] * 3
    with pytest.raises(WeightsError, match="sha256"):
        models.load_network(tmp_path / "models" / "GFPGANv1.4.pth", "clean", 2)
    assert not list((tmp_path / "models").glob("GFPGAN*"))


def test_a_file_of_ones_own_keeps_an_official_name(clean: Path, tmp_path: Path) -> None:
    path = tmp_path / "GFPGANv1.4.pth"
    path.write_bytes(clean.read_bytes())
    assert models.load_network(path, "clean", 2).config == WIDE


def test_an_address_of_others_is_fetched_once_with_a_word_about_it(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch(url: str, folder: Path) -> Path:
        path = folder / "weights"
        path.write_bytes(clean.read_bytes())
        return path

    monkeypatch.setattr(hosted, "fetch", fetch)
    for _ in range(2):
        models.load_network("https://example.org/GFPGANv1.4.pth?key=secret", "clean", 2)
    assert caplog.text.count("no official release: nothing proves") == 1
    assert "secret" not in caplog.text
    assert not (tmp_path / "weights" / "GFPGANv1.4.pth").exists()
    monkeypatch.setenv("GFPGAN_OFFLINE", "1")
    with pytest.raises(WeightsError, match="GFPGAN_OFFLINE forbids"):
        models.load_network("https://example.org/other.pth", "clean", 2)


@pytest.mark.parametrize(
    ("model_path", "says"),
    [
        ("http://example.org/GFPGANv1.4.pth", "give an https address"),
        ("models/mine.pth", "there is no file models/mine.pth; names that are fetched: GFPGANv1"),
    ],
)
def test_what_cant_be_found_says_what_can(model_path: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        models.load_network(model_path, "clean", 2)


def test_restoreformers_file_is_known_by_its_content(tmp_path: Path) -> None:
    network = upstream.restoreformer(width=32)
    path = tmp_path / "GFPGAN.pth"
    torch.save({"params": network.state_dict()}, path)
    assert models.load_network(path, "RestoreFormer", 2).config.base_channels == 32  # type: ignore[union-attr]
    with pytest.raises(InputError, match="holds another network: arch RestoreFormer"):
        models.load_network(path, "clean", 2)


def test_unknown_arguments_are_a_type_error_that_names_the_known_ones(clean: Path) -> None:
    with pytest.raises(TypeError, match=r"doesn't know model_dir; .* parse_model_path"):
        GFPGANer(clean, model_dir="x")
    with pytest.raises(InputError, match="scale is 100"):
        GFPGANer(clean, upscale=100)


def test_a_detection_and_a_parsing_file_are_used(
    clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(parts, "retinaface", lambda *given: asked.append(given))
    monkeypatch.setattr(parts, "load_parser", lambda parser, *given: asked.append(given))
    GFPGANer(clean, device="cpu", detection_model_path="d.pth", parse_model_path="p.pth")
    assert asked == [(Path("d.pth"), "retinaface-resnet50", "cpu"), (Path("p.pth"), "cpu")]
    asked.clear()
    (tmp_path / "detection_Resnet50_Final.pth").touch()
    GFPGANer(clean, device="cpu", model_rootpath=tmp_path)
    folders = [(tmp_path / "detection_Resnet50_Final.pth", "retinaface-resnet50", "cpu")]
    assert asked == folders


def test_parts_are_loaded_anew_where_they_are_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "checked_device", lambda device: device)
    loaded: list[str] = []

    def load_on(device: str) -> Any:
        loaded.append(device)
        return SimpleNamespace(find=lambda image, min_score: Detection())

    moved = parts.MovableDetector(load_on, "cpu")
    assert moved.to(torch.device("cpu")) is moved.eval() is moved
    moved.to("cuda:1").cuda().cpu()
    assert loaded == ["cpu", "cuda:1", "cuda:0", "cpu"]


class _Doubling:
    """As RealESRGANer: BGR in, BGR out; notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def enhance(self, img: ImageU8, outscale: float) -> tuple[ImageU8, str]:
        self.asked.append((img, outscale))
        return np.full((2 * img.shape[0] + 1, 2 * img.shape[1], 3), (10, 20, 30), np.uint8), "RGB"


def test_an_upsampler_gives_the_background_and_may_be_changed(
    clean: Path, portrait: ImageU8
) -> None:
    enhancer = GFPGANer(clean, bg_upsampler=_Doubling(), device="cpu")
    bgr = np.ascontiguousarray(portrait[..., ::-1])
    _, _, image = enhancer.enhance(bgr)
    assert image is not None and image.shape == (1024, 1024, 3)  # of the size asked for
    assert (image[-1, -1] == (10, 20, 30)).all()
    assert enhancer.bg_upsampler.asked == [(bgr, 2)]
    enhancer.bg_upsampler = None
    enhancer.upscale = 1.5
    _, _, image = enhancer.enhance(bgr[:301, :301])
    assert image is not None and image.shape == (451, 451, 3)  # down, as there


def test_an_upsampler_of_ours_is_taken_by_its_name(
    clean: Path, portrait: ImageU8, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = nn.Upsample(scale_factor=4)
    ours = background.BackgroundUpsampler(nearest, 4)
    monkeypatch.setattr("gfpgan_core.upstream.background.load_background", lambda *_: ours)
    enhancer = GFPGANer(clean, bg_upsampler="realesrgan-x4v3", upscale=4, device="cpu")
    small = np.ascontiguousarray(portrait[:64, :64, ::-1])
    _, _, image = enhancer.enhance(small)
    assert image is not None
    assert np.array_equal(image, small.repeat(4, axis=0).repeat(4, axis=1))
    with pytest.raises(InputError, match="bg_upsampler is of type int"):
        GFPGANer(clean, bg_upsampler=7, device="cpu")


def test_without_pasting_there_is_no_photo_and_no_work_for_it(
    clean: Path, portrait: ImageU8
) -> None:
    upsampler = _Doubling()
    enhancer = GFPGANer(clean, bg_upsampler=upsampler, device="cpu")
    whole = enhancer.enhance(portrait[..., ::-1])
    crops, faces, image = enhancer.enhance(portrait[..., ::-1], paste_back=False)
    assert image is None and len(upsampler.asked) == 1
    assert np.array_equal(crops, whole[0]) and np.array_equal(faces, whole[1])


def test_only_the_face_in_the_middle_is_restored(clean: Path, two_faces: ImageU8) -> None:
    enhancer = GFPGANer(clean, upscale=1, device="cpu")
    crops, _, _ = enhancer.enhance(two_faces[..., ::-1], only_center_face=True)
    (box,) = enhancer.face_helper.det_faces
    assert len(crops) == 1 and box.shape == (5,)
    middle = [abs(points[:, 0].mean() - 450) for points in enhancer.face_helper.all_landmarks_5]
    enhancer.enhance(two_faces[..., ::-1])
    both = [abs(points[:, 0].mean() - 450) for points in enhancer.face_helper.all_landmarks_5]
    assert middle == [min(both)]


def test_the_helper_tells_what_the_last_call_found(clean: Path, portrait: ImageU8) -> None:
    enhancer = GFPGANer(clean, device="cpu")
    crops, faces, _ = enhancer.enhance(portrait[..., ::-1])
    helper = enhancer.face_helper
    (face,) = load_detector("centerface").find(portrait).faces
    assert helper.cropped_faces is crops and helper.restored_faces is faces
    assert np.array_equal(helper.det_faces[0], [*face.box_xyxy, face.score])
    assert np.array_equal(helper.all_landmarks_5[0], face.landmarks)
    (crop_from_image,), (result_from_crop,) = helper.affine_matrices, helper.inverse_affine_matrices
    there_and_back = geometry.chain(result_from_crop, crop_from_image)
    assert np.allclose(there_and_back, geometry.scaling((512, 512), (1024, 1024)))
    kept = helper.cropped_faces
    helper.clean_all()
    assert helper.cropped_faces == [] and len(kept) == 1
    with pytest.raises(AttributeError, match=r"face_helper has no 'pad_input_imgs' here"):
        _ = helper.pad_input_imgs


def test_blend_is_what_weight_was_meant_for(clean: Path, portrait: ImageU8) -> None:
    enhancer = GFPGANer(clean, upscale=1, device="cpu")
    bgr = portrait[..., ::-1]
    strong, weak, unchanged = (
        enhancer.enhance(bgr, weight=weight, blend=blend)[2]
        for weight, blend in ((0.0, 1), (1.0, 1), (0.5, 0))
    )
    assert strong is not None and weak is not None and unchanged is not None
    assert np.array_equal(strong, weak) and not np.array_equal(strong, bgr)
    assert np.array_equal(unchanged, bgr)


def test_a_face_that_fails_raises_and_leaves_no_faces_of_others(
    clean: Path, portrait: ImageU8
) -> None:
    enhancer = GFPGANer(clean, device="cpu")
    enhancer.enhance(portrait[..., ::-1])
    with torch.no_grad():
        next(enhancer.gfpgan.parameters()).fill_(torch.nan)
    with pytest.raises(CropFailedError, match="not finite"):
        enhancer.enhance(portrait[..., ::-1])
    assert enhancer.face_helper.restored_faces == []
    enhancer.gfpgan.half()
    with pytest.raises(InputError, match="leave it in float32"):
        enhancer.enhance(portrait[..., ::-1])


def test_the_network_can_be_called_as_upstreams(clean: Path, portrait: ImageU8) -> None:
    enhancer = GFPGANer(clean, device="cpu")
    crops, faces, _ = enhancer.enhance(portrait[..., ::-1])
    lq = torch.from_numpy(crops[0][..., ::-1].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    output = enhancer.gfpgan(lq, return_rgb=False, weight=0.5)[0]
    restored = output[0].clamp(-1, 1).add(1).mul(127.5).permute(1, 2, 0).detach().numpy()[..., ::-1]
    assert np.abs(restored - faces[0]).max() <= 0.51


def test_it_is_a_thin_layer(clean: Path, portrait: ImageU8, monkeypatch: Any) -> None:
    """One call of `FaceRestorer.restore`, whose faces and crops are handed on."""
    calls: list[Any] = []
    restore = FaceRestorer.restore

    def counted(self: FaceRestorer, *given: Any, **options: Any) -> Any:
        calls.append(restore(self, *given, **options))
        return calls[-1]

    monkeypatch.setattr(FaceRestorer, "restore", counted)
    crops, faces, image = GFPGANer(clean, device="cpu").enhance(portrait[..., ::-1])
    (restoration,) = calls
    assert image is not None and np.array_equal(image[..., ::-1], restoration.image)
    assert np.array_equal(crops[0][..., ::-1], restoration.crops[0])
    assert np.array_equal(faces[0][..., ::-1], restoration.restored_crops[0])
