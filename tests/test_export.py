"""Exported weights, read by the programs that they are for."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pages
import pytest
import torch
import upstream
from conftest import PORTRAIT, TINY
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file as read_safetensors

from gfpgan_core import FaceRestorer, geometry
from gfpgan_core.__main__ import main
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.images import ImageU8, from_pm1, to_pm1
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import save_safetensors
from gfpgan_core.weights.export.pth import pth_name
from gfpgan_core.weights.load import load, load_file

upstream_clean = pytest.importorskip("gfpgan.archs.gfpganv1_clean_arch")
spandrel = pytest.importorskip("spandrel", reason="needs spandrel")

_ALIKE = 1e-4  # of -1..1, a hundredth of a gray level
_FULL_SIZE = bool(os.environ.get("GFPGAN_TEST_FULL_SIZE"))


class _Unfilled(torch.overrides.TorchFunctionMode):
    """Leaves new weights as memory is: what fills or replaces all of them comes after."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if func is torch.randn:
            return torch.empty(*args, **kwargs)
        if getattr(func, "__module__", "") == "torch.nn.init" or name in ("uniform_", "normal_"):
            return args[0] if args else kwargs.get("tensor")
        return func(*args, **kwargs)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What fine-tuning v1.4 exports, in its full shape: each weight has another value."""
    if _FULL_SIZE:
        torch.manual_seed(5)
        network = GFPGAN(GeneratorConfig())
        upstream.fill_zeros(network)
    else:
        with _Unfilled():
            network = GFPGAN(GeneratorConfig())
        for number, value in enumerate(network.state_dict().values()):
            value.fill_(number)
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    save_safetensors(network, path, half=True)
    return path


Ran = Callable[[str], Path]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, own: Path, tiny_weights: Path) -> Ran:
    """Runs a command of docs/exports.md where it was not run before; returns the folder."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "full").mkdir()
    with Image.open(PORTRAIT) as portrait:
        portrait.resize((128, 128)).save(folder / "photo.jpg")
    # Only the .pth asks for the full shape; with a small one the others take less time.
    (folder / "full" / "own.safetensors").symlink_to(own)
    (folder / "own.safetensors").symlink_to(tiny_weights)
    done: set[str] = set()

    def run(command: str) -> Path:
        place = folder / "full" if "--to pth" in command else folder
        if command in done:
            return place
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place)
            assert pages.run(command) == 0
        done.add(command)
        return place

    return run


def _command_with(words: str) -> str:
    (command,) = (command for command in pages.commands("exports.md") if words in command)
    return command


@pytest.mark.parametrize("command", pages.commands("exports.md"))
def test_the_documented_command_works(command: str, ran: Ran) -> None:
    if "--weights own-hub" in command:
        ran(_command_with("--to hub"))
    ran(command)


# .pth


@pytest.fixture(scope="module")
def pth(ran: Ran) -> Path:
    return ran(_command_with("--to pth")) / "GFPGANv1.4-own.pth"


def _in_gfpgan(path: Path) -> torch.nn.Module:
    """As `GFPGANer(arch="clean")` loads it."""
    with _Unfilled():
        network: torch.nn.Module = upstream_clean.GFPGANv1Clean(
            out_size=512, num_style_feat=512, channel_multiplier=2, decoder_load_path=None,
            fix_decoder=False, num_mlp=8, input_is_latent=True, different_w=True, narrow=1,
            sft_half=True,
        )  # fmt: skip
    loaded = torch.load(path, weights_only=False)
    network.load_state_dict(loaded["params_ema" if "params_ema" in loaded else "params"], True)
    return network.eval()


def _in_spandrel(path: Path) -> torch.nn.Module:
    with _Unfilled():
        described = spandrel.ModelLoader("cpu").load_from_file(path)
    assert described.architecture.id == "GFPGAN"
    network: torch.nn.Module = described.model.eval()
    return network


@pytest.mark.parametrize("load_there", [_in_gfpgan, _in_spandrel])
def test_a_pth_loads_strictly_with_every_weight(load_there: Any, pth: Path, own: Path) -> None:
    theirs = load_there(pth).state_dict()
    ours = read_safetensors(own)
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name].float()) for name in ours)


@pytest.mark.skipif(
    not _FULL_SIZE,
    reason="takes 20 s: set GFPGAN_TEST_FULL_SIZE=1; test_networks.py compares small ones",
)
@pytest.mark.parametrize("load_there", [_in_gfpgan, _in_spandrel])
@torch.no_grad()
def test_a_pth_gives_the_same_faces_there(
    load_there: Any, pth: Path, own: Path, portrait: ImageU8
) -> None:
    lq = to_pm1(portrait)[None]
    theirs = load_there(pth)(lq, return_rgb=False, randomize_noise=False)[0]
    ours = load_file(own)(lq)
    assert (ours - theirs).abs().max() <= _ALIKE * max(1, float(theirs.abs().max()))


def test_weights_that_those_tools_cannot_hold_are_refused_with_the_way_that_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "compact", "--to", "pth", "--output", str(tmp_path / "a.pth")]) == 1
    error = capsys.readouterr().err
    assert "narrow is 0.25, and must be 1.0" in error and "residual is True" in error
    assert "--to onnx" in error and not list(tmp_path.iterdir())


def test_the_suggested_name_is_one_that_no_tool_misreads() -> None:
    assert pth_name("own") == "GFPGANv1.4-own.pth"
    assert pth_name("1024 px/x") == "GFPGANv1.4-px_x.pth"  # ReActor: 1024 px
    assert pth_name("2048") == "GFPGANv1.4-own.pth"


# ONNX


@pytest.fixture(scope="module")
def facefusion_models(ran: Ran) -> Path:
    return ran(_command_with("--facefusion")) / "models"


def test_the_onnx_file_is_one_that_old_runtimes_read(facefusion_models: Path) -> None:
    assert sorted(path.name for path in facefusion_models.iterdir()) == [
        "gfpgan_1.4.hash",
        "gfpgan_1.4.onnx",
    ]
    model = onnx.load(facefusion_models / "gfpgan_1.4.onnx")
    assert [(entry.domain, entry.version <= 17) for entry in model.opset_import] == [("", True)]
    (given,) = model.graph.input
    assert given.name == "input" and given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    sides = [side.dim_value or side.dim_param for side in given.type.tensor_type.shape.dim]
    assert sides == ["batch", 3, 512, 512]
    assert {node.op_type for node in model.graph.node}.isdisjoint(("RandomNormal", "Dropout"))


@pytest.mark.parametrize("name", ["compact", "bilinear", "fir"])
@torch.no_grad()
def test_onnxruntime_gives_what_torch_gives(
    name: str, facefusion_models: Path, tmp_path: Path, portrait: ImageU8
) -> None:
    """Also of two faces at once: the batch's size isn't written into the file."""
    network: Any = load("compact")
    path = facefusion_models / "gfpgan_1.4.onnx"
    if name != "compact":
        torch.manual_seed(2)
        network = GFPGAN(GeneratorConfig(**{**vars(TINY), "resampling": name}))
        save_safetensors(upstream.fill_zeros(network), tmp_path / "tiny.safetensors")  # type: ignore[arg-type]
        path = tmp_path / "tiny.onnx"
        command = ["export", str(tmp_path / "tiny.safetensors"), "--to", "onnx"]
        assert main([*command, "--output", str(path)]) == 0
    side = network.config.face_size_px
    face = np.asarray(geometry.resize(portrait, (side, side)), np.uint8)
    lq = torch.stack([to_pm1(face), to_pm1(face[:, ::-1].copy())])
    (theirs,) = onnxruntime.InferenceSession(path).run(None, {"input": lq.numpy()})
    ours = network(lq).numpy()
    assert np.abs(ours - theirs).max() <= _ALIKE * max(1, np.abs(ours).max())


# facefusion's own numbers, in shares of the crop's side.
_FFHQ_512 = np.array(
    [
        [0.37691676, 0.46864664],
        [0.62285697, 0.46912813],
        [0.50123859, 0.61331904],
        [0.39308822, 0.72541100],
        [0.61150205, 0.72490465],
    ]
)


def test_facefusions_face_enhancer_restores_with_it(
    facefusion_models: Path, portrait: ImageU8
) -> None:
    """Its way to the network and back gives the face that we make of the same crop."""
    model = facefusion_models / "gfpgan_1.4.onnx"
    checksum = format(zlib.crc32(model.read_bytes()), "08x")
    assert model.with_suffix(".hash").read_text() == checksum
    blurred = np.asarray(cv2.GaussianBlur(portrait, (0, 0), 3), np.uint8)
    frame = blurred[..., ::-1]  # BGR, as it has it
    restorer = FaceRestorer.from_release("compact")
    (face,) = restorer.detector.find(blurred).faces
    matrix, _ = cv2.estimateAffinePartial2D(
        face.landmarks, _FFHQ_512 * 512, method=cv2.RANSAC, ransacReprojThreshold=100
    )
    border, area = cv2.BORDER_REPLICATE, cv2.INTER_AREA
    warped = cv2.warpAffine(frame, matrix, (512, 512), borderMode=border, flags=area)
    crop = np.asarray(warped, np.uint8)
    prepared = (crop[:, :, ::-1] / 255.0 - 0.5) / 0.5
    prepared = np.expand_dims(prepared.transpose(2, 0, 1), 0).astype(np.float32)
    output: NDArray[Any] = onnxruntime.InferenceSession(model).run(None, {"input": prepared})[0][0]
    output = (np.clip(output, -1, 1) + 1) / 2
    enhanced = (output.transpose(1, 2, 0) * 255.0).round().astype(np.uint8)[:, :, ::-1]
    ours = from_pm1(restorer.run(to_pm1(crop[..., ::-1].copy())[None])[0])
    assert np.abs(enhanced[..., ::-1].astype(int) - ours).max() <= 1
    # And it is a restoration: sharper than the blurred frame, and near to the portrait.
    truth = cv2.warpAffine(portrait, matrix, (512, 512), borderMode=border, flags=area)
    before, after = (_psnr(image[..., ::-1], truth) for image in (crop, enhanced))
    assert after > before + 0.5


def _psnr(image: NDArray[Any], truth: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - truth) ** 2)))


def test_facefusion_is_refused_what_it_cannot_run(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(tiny_weights), "--facefusion", "--output", str(tmp_path)]
    assert main([*command, "--to", "onnx"]) == 1
    assert "faces have 512 px, these weights are for 64 px" in capsys.readouterr().err
    assert main([*command, "--to", "hub"]) == 1
    assert "--facefusion is for --to onnx" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--to onnx --output a.pth", "a.pth and --to onnx don't agree: name it a.onnx"),
        ("--to pth --output a.onnx", "a.onnx and --to pth don't agree: name it a.pth"),
        ("--to hub --output file", "file is a file, and a folder is written"),
        ("--to onnx --facefusion --output file", "file is a file, and a folder is written"),
        ("--to onnx --facefusion --name own", "facefusion knows its own names only"),
        ("--to onnx --license mit", "--license is for the card of --to hub"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_weights_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["export", "missing.pth", *arguments.split()]) == 1
    assert text in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_onnx_the_package_is_named(
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = tmp_path / "a.onnx"
    assert main(["export", str(tiny_weights), "--to", "onnx", "--output", str(path)]) == 1
    assert "pip install onnx" in capsys.readouterr().err and not path.exists()


def test_a_failed_export_leaves_nothing(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(b"before")
    command = ["export", str(tiny_weights), "--to", "onnx", "--output", str(path)]
    assert main(command) == 1
    assert path.read_bytes() == b"before"

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.onnx.export", full_disk)
    assert main([*command, "--overwrite"]) == 1
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1
