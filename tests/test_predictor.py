"""What a prediction logs and reports, with a restorer that needs no network; see `test_server.py`
for the server itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cog
import numpy as np
import pytest
from PIL import Image

from gfpgan_core import images, serving
from gfpgan_core.choose import LeftAlone
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detectors import Face
from gfpgan_core.errors import InputError
from gfpgan_core.images import Photo
from gfpgan_core.result import Restoration
from predict import Predictor

_FACE = Face(np.array([0.0, 0, 8, 8]), np.zeros((5, 2)), 0.75)


@dataclass
class _Restorer:
    """Checks the options as the pipeline does; the result stays as large as the photo."""

    result: dict[str, Any] = field(default_factory=dict)
    asked: list[RestoreOptions] = field(default_factory=list)

    def restore(self, photo: Photo, options: RestoreOptions) -> Restoration:
        self.asked.append(options)
        width, height = photo.rgb.shape[1], photo.rgb.shape[0]
        options.output_size_wh(width, height)
        scale = options.scale_for(width, height)
        about: dict[str, Any] = {
            "scale": scale,
            "is_scale_limited": options.scale == "auto" and scale < 2,
        }
        about |= {"page": photo.page, "pages": photo.pages} | self.result
        return Restoration(photo.rgb, None, photo.format, [_FACE], [], [], **about)


@dataclass
class _Run:
    """A predictor; its metrics."""

    predictor: Predictor
    restorer: _Restorer
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where Cog puts what it fetched."""
        return self.predictor.files.folder

    def __call__(self, img: Path, scale: float = 2, **chosen: Any) -> Photo:
        others: dict[str, Any] = {
            **{"version": "compact", "background_upsampler": "none", "output_format": "auto"},
            **{"blend": 1, "auto_blend": False, "faces": "all", "only_center_face": False},
            **{"aligned": False, "upscale_faces": False},
            **chosen,
        }
        return images.read(Path(self.predictor.run(img=cog.Path(img), scale=scale, **others)))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> _Run:
    caplog.set_level(logging.INFO)
    predictor, restorer = Predictor(), _Restorer()
    predictor.files = serving.RequestFiles(serving.MAX_PHOTO_BYTES, tmp_path)
    monkeypatch.setattr(predictor, "trained", restorer, raising=False)
    run = _Run(predictor, restorer)
    monkeypatch.setattr(predictor, "record_metric", run.metrics.__setitem__)
    return run


def _photo(folder: Path, size_wh: tuple[int, int], **options: Any) -> Path:
    path = folder / "photo.gif" if options else folder / "photo.png"
    Image.new("RGB", size_wh, (10, 90, 200)).save(path, **options)
    return path


def test_a_photo_too_large_for_the_default_scale_gets_the_largest_that_fits(
    run: _Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Twice 16,200 px is more than a side may have; so it is with 50 megapixels for the area."""
    run(_photo(run.folder, (16_200, 20)))
    assert run.metrics["scale"] == 1.97
    assert "the result is 1.97 times as large as the photo: twice would be too large" in caplog.text
    with pytest.raises(InputError, match=r"choose a scale of at most 1\.97"):
        run(_photo(run.folder, (16_200, 20)), scale=3)


def test_an_ordinary_photo_gets_the_scale_that_was_asked_for_without_a_remark(
    run: _Run, caplog: pytest.LogCaptureFixture
) -> None:
    for scale in (2.0, 1.5):
        run(_photo(run.folder, (60, 40)), scale)
        assert run.metrics["scale"] == scale
    for remark in ("times as large", "page", "interlaced", "left alone"):
        assert remark not in caplog.text


def test_what_was_not_restored_is_told(run: _Run, caplog: pytest.LogCaptureFixture) -> None:
    run.restorer.result = {
        "is_interlaced": True,
        "left_alone": [LeftAlone(_FACE, "too small"), LeftAlone(_FACE, "doubtful")],
    }
    frames = [Image.new("RGB", (60, 40), (n, n, n)) for n in (90, 180)]
    run(_photo(run.folder, (60, 40), save_all=True, append_images=frames))
    assert "page 1 of 3 was restored" in caplog.text
    assert "combs of interlaced video" in caplog.text
    assert "1 face, 2 left alone (1 too small, 1 doubtful)" in caplog.text
    assert (run.metrics["pages"], run.metrics["left_alone"]) == (3, 2)
    assert "--" not in caplog.text  # options of the command line


def test_faces_and_their_blend_are_as_the_client_chose(run: _Run) -> None:
    run.restorer.result = {"blends": [0.25, 0.75]}
    photo = _photo(run.folder, (60, 40))
    for chosen, faces, blend in (
        ({}, "all", 1),
        ({"faces": "2,1"}, (1, 2), 1),
        ({"faces": "largest", "auto_blend": True, "blend": 0.5}, "largest", "auto"),
        ({"only_center_face": True}, "center", 1),
        ({"faces": "center", "only_center_face": True}, "center", 1),
    ):
        run(photo, **chosen)
        assert (run.restorer.asked[-1].faces, run.restorer.asked[-1].blend) == (faces, blend)
        assert run.metrics["blend"] == 0.5
        photo = _photo(run.folder, (60, 40))
    with pytest.raises(InputError, match="faces is 'first'; allowed: all, largest, center"):
        run(photo, faces="first")
    with pytest.raises(InputError, match="faces is '1' and only_center_face is on: send one"):
        run(_photo(run.folder, (60, 40)), faces="1", only_center_face=True)


def test_large_faces_are_upscaled_where_the_client_asks_and_the_scale_is_above_2(run: _Run) -> None:
    network = "realesrgan-x4v3"
    run(_photo(run.folder, (60, 40)), scale=4, background_upsampler=network, upscale_faces=True)
    assert run.restorer.asked[-1].upscale_faces
    for scale, upsampler, said in ((2, network, "scale is auto"), (4, "none", "background is")):
        photo = _photo(run.folder, (60, 40))
        with pytest.raises(InputError, match=f"upscale_faces is on and {said}"):
            run(photo, scale=scale, background_upsampler=upsampler, upscale_faces=True)
