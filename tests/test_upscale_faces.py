"""`upscale_faces`: the background's network over the faces that the result shows larger than they
were restored."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pages
import pytest
import torch
from conftest import TINY, random_network
from torch import nn

from gfpgan_core import background, compat, geometry, images, masks, pipeline
from gfpgan_core.__main__ import main
from gfpgan_core.background import face_upscale
from gfpgan_core.cli import restore
from gfpgan_core.config import Background, RestoreOptions
from gfpgan_core.detect import Detection
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import PARSERS, Masker, parsing_masker, template_masks
from gfpgan_core.pipeline import FaceRestorer

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES: tuple[Background, ...] = ("realesrgan-x4v3", "realesrgan-x2plus", "realesrgan-x4plus")
SIDE = TINY.face_size_px  # 64


class _Template:
    """Finds faces that lie as in the template: (left, top, side) of each crop in the photo."""

    def __init__(self, *places: tuple[float, float, float]) -> None:
        self.places = places

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        faces = []
        for left, top, side in self.places:
            landmarks = (geometry.TEMPLATE_LANDMARKS + 0.5) * (side / 512) - 0.5 + (left, top)
            box = np.array([left, top, left + side, top + side])
            faces.append(Face(box, landmarks, 0.9, 0.9, is_placed=True))
        return Detection(faces)


def _restorer(*places: tuple[float, float, float], masker: Masker = template_masks) -> FaceRestorer:
    network = random_network(3).eval()
    return FaceRestorer(network, _Template(*places), masker, backend="torch")


@pytest.fixture(scope="module")
def networks() -> dict[str, nn.Module]:
    """Random networks of each background's kind, with few layers."""
    compat.restore_functional_tensor()
    from basicsr.archs.rrdbnet_arch import RRDBNet
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    torch.manual_seed(5)
    made: dict[str, nn.Module] = {
        "realesrgan-x4v3": SRVGGNetCompact(3, 3, 64, 2, 4, "prelu"),
        "realesrgan-x2plus": RRDBNet(3, 3, scale=2, num_feat=64, num_block=2, num_grow_ch=32),
        "realesrgan-x4plus": RRDBNet(3, 3, scale=4, num_feat=64, num_block=2, num_grow_ch=32),
    }
    for network in made.values():
        last = [module for module in network.modules() if isinstance(module, nn.Conv2d)][-1]
        with torch.no_grad():  # so that the levels vary, and stay between black and white
            last.weight.mul_(5)
            last.bias.fill_(0.3)  # type: ignore[union-attr]
    return made


@pytest.fixture
def random_backgrounds(
    networks: dict[str, nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These networks in the place of the released ones."""

    def load(name: str, device: str) -> background.BackgroundUpsampler:
        path = tmp_path / f"{name}.pth"
        if not path.exists():
            torch.save({"params": networks[name].state_dict()}, path)
        return background.load_background_file(path, 2 if name == "realesrgan-x2plus" else 4)

    loaded = {name: load(name, "cpu") for name in NAMES}
    monkeypatch.setattr(pipeline, "load_background", lambda name, device: loaded[name])


@pytest.fixture(scope="module")
def photo(portrait: ImageU8) -> ImageU8:
    """A face of 64 px in a photo of 96 px; soft, so that all interpolations of it agree."""
    part = cv2.GaussianBlur(portrait[40:232, 130:322], (0, 0), 6)
    return np.asarray(cv2.resize(part, (96, 96), interpolation=cv2.INTER_AREA), np.uint8)


def _options(scale: float, name: Background = "realesrgan-x4v3", **more: object) -> RestoreOptions:
    return RestoreOptions(scale=scale, background=name, upscale_faces=True, **more)  # type: ignore[arg-type]


def _without(options: RestoreOptions) -> RestoreOptions:
    return dataclasses.replace(options, upscale_faces=False)


@pytest.mark.parametrize("name", NAMES)
def test_the_face_is_the_network_over_the_restored_face(
    name: Background, networks: dict[str, nn.Module], photo: ImageU8, random_backgrounds: None
) -> None:
    """The expected picture is the bare network's, from which the photo's own detail is absent."""
    result = _restorer((16, 20, SIDE)).restore(photo, _options(4, name, keep_gray=False))
    assert result.upscaled == [True]
    assert np.array_equal(result.crops[0], photo[20:84, 16:80])
    levels = torch.from_numpy(result.restored_crops[0]).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        seen = networks[name](levels)[0].clamp(0, 1).mul(255).permute(1, 2, 0).numpy()
    expected = cv2.resize(seen, (256, 256), interpolation=cv2.INTER_LANCZOS4)  # x2plus gives 128
    middle = np.s_[64:192, 64:192]  # where the template's mask is 1
    found = result.image[80:336, 64:320].astype(float)
    difference = np.abs(found - expected.clip(0, 255))[middle]
    assert seen.std() > 8
    # Two ways to enlarge the soft photo and roundings: at most 3 levels apart.
    assert difference.max() <= 4 and difference.mean() < 0.8
    plain = _restorer((16, 20, SIDE)).restore(photo, _without(_options(4, name, keep_gray=False)))
    assert np.abs(plain.image[80:336, 64:320] - expected)[middle].mean() > 5


def test_outside_the_face_nothing_changes(photo: ImageU8, random_backgrounds: None) -> None:
    restorer = _restorer((16, 20, SIDE))
    options = _options(4)
    with_it = restorer.restore(photo, options).image.astype(int)
    changed = np.abs(with_it - restorer.restore(photo, _without(options)).image).max(axis=2)
    inside = np.zeros(changed.shape, bool)
    inside[80:336, 64:320] = True  # the crop, 4 times as large
    assert changed[~inside].max() == 0 and changed[inside].max() > 20


def test_a_network_that_only_interpolates_changes_next_to_nothing(
    photo: ImageU8, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the face lies between the pixels, and in a photo finer than its crop."""
    monkeypatch.setattr(pipeline, "load_background", lambda name, device: geometry.resize)
    for place, scale in (((16.3, 20.7, 51.5), 4.0), ((2, 2, 90), 2.7), ((-20, 10, 70), 8)):
        restorer, options = _restorer(place), _options(scale)
        found = restorer.restore(photo, options)
        plain = restorer.restore(photo, _without(options)).image.astype(int)
        assert found.upscaled == [True]
        difference = np.abs(found.image - plain)
        assert difference.mean() < 0.5 and np.percentile(difference, 99.9) <= 8


def test_only_faces_that_are_shown_larger_than_restored_are_upscaled(
    photo: ImageU8, random_backgrounds: None
) -> None:
    """At scale 3, 16 px become 48, fewer than the network's 64, and 32 px become 96."""
    restorer = _restorer((4, 10, 16), (40, 20, 32))
    options = _options(3, min_eye_distance_px=0)
    result = restorer.restore(photo, options)
    assert result.upscaled == [False, True]
    assert result.counts()["upscaled"] == 1 and result.found() == "2 faces, 1 upscaled"
    plain = restorer.restore(photo, _without(options))
    assert plain.upscaled == [] and plain.found() == "2 faces"
    small, large = np.s_[30:78, 12:60], np.s_[60:156, 120:216]
    changed = np.abs(result.image.astype(int) - plain.image)
    assert changed[small].max() == 0 and changed[large].max() > 20


def test_a_face_that_keeps_itself_is_not_upscaled(photo: ImageU8, random_backgrounds: None) -> None:
    options = _options(4, blend=0.0)
    result = _restorer((16, 20, SIDE)).restore(photo, options)
    assert result.upscaled == [False]
    plain = _restorer((16, 20, SIDE)).restore(photo, _without(options))
    assert np.array_equal(result.image, plain.image)


@pytest.mark.parametrize(
    ("face_px", "scale", "expected"),
    [(512, 4, 4), (512, 3, 3), (512, 2.5, 3), (512, 8, 4), (1024, 4, 4), (128, 4, 1), (120, 8, 2)],
)
def test_a_face_is_enlarged_as_far_as_the_result_shows_it(
    face_px: int, scale: float, expected: int
) -> None:
    """The largest is what the networks are made for."""
    crop_from_image = geometry.scaling((face_px, face_px), (512, 512))
    assert face_upscale(crop_from_image, scale) == expected


def test_an_aligned_face_is_the_network_over_the_whole_of_it(
    networks: dict[str, nn.Module], photo: ImageU8, random_backgrounds: None
) -> None:
    face = photo[16:80, 16:80].copy()
    options = _options(4, aligned=True, blend=0.6, keep_gray=False)
    result = _restorer().restore(face, options)
    mixed = np.rint(0.6 * result.restored_crops[0] + 0.4 * result.crops[0].astype(float))
    levels = torch.from_numpy(mixed.astype(np.float32)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        seen = networks["realesrgan-x4v3"](levels)[0].clamp(0, 1).mul(255)
    expected = seen.permute(1, 2, 0).numpy()
    assert result.image.shape == (256, 256, 3) and result.upscaled == [True]
    # A level that is halfway may be rounded either way before the network enlarges it by 5.
    assert np.abs(result.image - expected).mean() < 0.6


def test_a_gray_photo_keeps_gray_faces(photo: ImageU8, random_backgrounds: None) -> None:
    gray = np.repeat(photo[..., 1:2], 3, axis=2)
    for options in (_options(4), _options(4, aligned=True)):
        result = _restorer((16, 20, SIDE)).restore(gray, options)
        assert result.upscaled == [True]
        assert (result.image == result.image[..., :1]).all()


def _random_parsing(name: str) -> Masker:
    """A parsing mask by a network without training."""
    torch.manual_seed(1)
    network = PARSERS[name].build().eval()

    class Scores(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            small = nn.functional.interpolate(x, size=(64, 64))
            scores: torch.Tensor = network(small)[0]
            return nn.functional.interpolate(scores, size=(512, 512))

    return parsing_masker(PARSERS[name], Scores(), "cpu")


def _maskers() -> dict[str, Callable[[], Masker]]:
    makers: dict[str, Callable[[], Masker]] = {"template": lambda: template_masks}
    makers |= {name: lambda name=name: _random_parsing(name) for name in PARSERS}  # type: ignore[misc]
    assert makers.keys() == masks.MASKERS.keys()
    return makers


@pytest.mark.parametrize("mask", masks.MASKERS)
def test_every_background_scale_and_mask_gives_the_size_promised(
    mask: str, photo: ImageU8, random_backgrounds: None
) -> None:
    restorer = _restorer((4, 6, 30), masker=_maskers()[mask]())
    cut = photo[20:60, 20:65]
    for name, scale in itertools.product(("none", *NAMES), (1, 2, 3, 4)):
        upscales = name != "none" and scale > 2
        options = RestoreOptions(scale=scale, background=name, upscale_faces=upscales)
        result = restorer.restore(cut, options)
        assert result.image.shape == (40 * scale, 45 * scale, 3)
        assert result.image.dtype == np.uint8
        assert result.upscaled == ([True] if upscales else [])


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"scale": 4}, "upscale_faces is on and background is none: choose the network"),
        ({"scale": 2, "background": NAMES[0]}, "scale is 2; allowed with it: above 2, up to 8"),
        ({"background": NAMES[0]}, r"scale is auto; .* \(auto is at most 2\): enlarge the scale"),
    ],
)
def test_what_it_needs_is_said_before_any_work(chosen: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        RestoreOptions(upscale_faces=True, **chosen)  # type: ignore[arg-type]


def test_the_command_line_says_what_it_needs_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["restore", "photo.jpg", "--output", str(tmp_path)],
        ["video", "in.mp4", str(tmp_path / "out.mp4")],
        ["batch", "run", "manifest.parquet", "--output", str(tmp_path)],
    ):
        assert main([*command, "--scale", "4", "--upscale-faces"]) == 1
        assert "upscale_faces is on and background is none" in capsys.readouterr().err


def test_the_documented_command_upscales_the_face(
    photo: ImageU8,
    random_backgrounds: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(restore, "load_restorer", lambda _: _restorer((16, 20, SIDE)))
    images.write(tmp_path / "photo.jpg", images.encode(photo, None, "jpg"))
    (line,) = pages.commands("large_faces.md")
    command = shlex.split(line)
    assert command[:3] == ["python", "-m", "gfpgan_core"]
    assert main([*command[3:], "--report"]) == 0
    assert "photo.jpg: 1 face, 1 upscaled, " in capsys.readouterr().out
    page = (tmp_path / "output" / "report.html").read_text(encoding="utf-8")
    assert "background realesrgan-x4v3, faces upscaled" in page
    assert main([*command[3:], "--json", "--resume", "--output", "again"]) == 0
    (face,) = json.loads(capsys.readouterr().out.splitlines()[0])["faces"]
    assert face["upscaled"] is True
    # Without the option it is another result: `--resume` doesn't take the one for the other.
    without = [word for word in command[3:] if word != "--upscale-faces"]
    assert main([*without, "--resume", "--output", "again"]) == 0
    assert "1 restored, 0 failed, 0 passed over" in capsys.readouterr().out
