"""Programs of the usual kinds, as they are written for gfpgan: `install()` is all that is added."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import PORTRAIT, TINY, random_network
from numpy.typing import NDArray

from gfpgan_core import upstream
from gfpgan_core.images import ImageU8

pytestmark = pytest.mark.usefixtures("one_thread", "installed")

PROGRAMS = Path(__file__).parent / "dropin_programs"


@pytest.fixture
def installed() -> Iterator[None]:
    """`gfpgan` is ours; other tests in this process import the real one, which is put back."""
    real = {name: module for name, module in sys.modules.items() if _is_gfpgan(name)}
    for name in real:
        del sys.modules[name]
    upstream.install()
    yield
    for name in [name for name in sys.modules if _is_gfpgan(name)]:
        del sys.modules[name]
    sys.modules.update(real)


def _is_gfpgan(name: str) -> bool:
    return name.partition(".")[0] == "gfpgan"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program's folder, with small models in it."""
    (tmp_path / "models").mkdir()
    network = random_network(3, dataclasses.replace(TINY, channel_multiplier=2))
    torch.save({"params_ema": network.state_dict()}, tmp_path / "models" / "GFPGANv1.4.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _program(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, PROGRAMS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _changed(after: NDArray[Any], before: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.abs(after.astype(float) - before).max(axis=2))


def _read(path: str) -> NDArray[Any]:
    image = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


def test_a_frame_loop_of_two_threads(folder: Path, portrait: ImageU8, two_faces: ImageU8) -> None:
    program = _program("frame_loop")
    bgr = [np.ascontiguousarray(image[..., ::-1]) for image in (portrait, two_faces) * 2]
    paths = [str(folder / f"{number}.png") for number in range(len(bgr))]
    for path, frame in zip(paths, bgr, strict=True):
        cv2.imwrite(path, frame)
    program.process_frames(paths)
    for path, frame in zip(paths, bgr, strict=True):
        alone = program.enhance_frame(frame)
        assert _changed(alone, frame).max() > 20
        assert np.array_equal(_read(path), alone)


def test_threads_dont_mix_their_faces(folder: Path, portrait: ImageU8, two_faces: ImageU8) -> None:
    enhancer = _program("frame_loop").get_face_enhancer()
    both_done = Barrier(2)

    def counts(image: ImageU8) -> tuple[int, ...]:
        crops, faces, _ = enhancer.enhance(image[..., ::-1])
        both_done.wait()
        helper = enhancer.face_helper
        assert helper.cropped_faces is crops and helper.restored_faces is faces
        return len(helper.det_faces), len(helper.affine_matrices), len(crops)

    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(counts, [portrait, two_faces]))
    assert found == [(1, 1, 1), (2, 2, 2)]
    assert len(enhancer.face_helper.det_faces) in (1, 2)  # another thread sees the newest


@pytest.mark.parametrize("kind", ["color", "gray", "alpha", "16 bits"])
def test_a_face_enhancer_inside_an_enlarging_script(
    folder: Path, portrait: ImageU8, kind: str
) -> None:
    program = _program("enlarge")
    model = program.SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=2)
    torch.manual_seed(0)
    state = {name: torch.randn_like(v) * 0.03 for name, v in model.state_dict().items()}
    torch.save({"params": state}, folder / "models" / "enlarger.pth")
    bgr = cv2.resize(portrait, (192, 192), interpolation=cv2.INTER_AREA)[..., ::-1]
    pictures = {
        "color": bgr,
        "gray": bgr[..., 1],
        "alpha": np.dstack([bgr, np.tile(np.arange(192, dtype=np.uint8), (192, 1))]),
        "16 bits": bgr.astype(np.uint16) * 257,
    }
    (folder / "inputs").mkdir()
    cv2.imwrite("inputs/a.png", np.ascontiguousarray(pictures[kind]))
    program.main(["--outscale", "3.5", "-o", "plain"])
    program.main(["--outscale", "3.5", "--face_enhance"])
    plain = _read("plain/a.png")
    result = _read("results/a.png")
    if kind == "alpha":
        assert np.array_equal(result[..., 3], plain[..., 3])
        plain, result = plain[..., :3], result[..., :3]
    if kind == "gray":
        plain = np.repeat(plain[..., None], 3, axis=2)
    if kind == "16 bits":
        plain = np.rint(plain / 257)
    assert result.shape == (672, 672, 3) and result.dtype == np.uint8
    changed = _changed(result, plain)
    assert changed[100:400, 200:400].max() > 20  # the face
    assert changed[600:].max() <= 1  # the upsampler's own


def test_a_page_that_keeps_the_object(folder: Path, portrait: ImageU8) -> None:
    program = _program("page")
    output, gallery = program.restore(PORTRAIT)
    assert output.size == (1024, 1024) and len(gallery) == 2
    assert program.load_model() is program.load_model()
    again, _ = program.restore(PORTRAIT)
    assert np.array_equal(again, output)


def test_an_interface_that_moves_the_models_between_devices(
    folder: Path, portrait: ImageU8
) -> None:
    program = _program("web_ui")
    fixed = program.fix_faces(portrait)
    assert fixed.shape == portrait.shape and _changed(fixed, portrait).max() > 20
    assert program.loaded.face_helper.cropped_faces == []
    assert np.array_equal(program.fix_faces(portrait), fixed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_models_are_moved_to_a_gpu_and_back(folder: Path, portrait: ImageU8) -> None:
    program = _program("web_ui")
    on_cpu = program.fix_faces(portrait)
    program.DEVICE = "cuda"
    on_gpu = program.fix_faces(portrait)
    assert next(program.loaded.gfpgan.parameters()).device.type == "cpu"
    assert _changed(on_gpu, on_cpu).mean() < 1


def test_install_gives_every_name_and_says_what_it_has_not() -> None:
    upstream.install()  # again: no harm
    package = importlib.import_module("gfpgan")
    utils = importlib.import_module("gfpgan.utils")
    assert package.GFPGANer is utils.GFPGANer is upstream.GFPGANer
    assert package.__version__ == "1.3.8"
    with pytest.raises(AttributeError, match="offers GFPGANer alone"):
        _ = package.GFPGANModel
    with pytest.raises(ModuleNotFoundError, match=r"gfpgan\.archs"):
        importlib.import_module("gfpgan.archs")


def test_install_refuses_where_the_real_one_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gfpgan", types.ModuleType("gfpgan"))
    with pytest.raises(ImportError, match="gfpgan has been imported already"):
        upstream.install()
