"""FaceRes, the identity loss's network of color faces, and the file that its weights come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gfpgan_core.errors import InputError
from scripts import import_faceres
from train.faceres import FaceRes
from train.features import IdentityFeatures, load_identity

# MobileNet v1 (arXiv 1704.04861, table 1): stride and filters of each separable block.
BLOCKS = [(1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512)]
BLOCKS += [(1, 512)] * 5 + [(2, 1024), (1, 1024)]


def _arrays() -> dict[str, np.ndarray]:
    """Random weights by the names, shapes and layouts of TensorFlow's graph."""
    random = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        scale = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) == 4 else 0.1
        return (random.standard_normal(shape) * scale).astype(np.float32)

    arrays = {
        "conv1/convolution/merged_input": draw(3, 3, 3, 32) / 60,
        "conv1_bn/batchnorm_1/sub": draw(32),
    }
    width = 32
    for number, (_, outs) in enumerate(BLOCKS, 1):
        arrays[f"conv_dw_{number}/depthwise_kernel"] = draw(3, 3, width, 1) * width**0.5
        arrays[f"conv_dw_{number}_bn/batchnorm_1/mul"] = 1 + draw(width)
        arrays[f"conv_dw_{number}_bn/batchnorm_1/sub"] = draw(width)
        arrays[f"conv_pw_{number}/convolution/merged_input"] = draw(1, 1, width, outs)
        arrays[f"conv_pw_{number}_bn/batchnorm_1/sub"] = draw(outs)
        width = outs
    return arrays


def _write(arrays: dict[str, np.ndarray], folder: Path) -> Path:
    entries = [{"name": k, "shape": v.shape, "dtype": "float32"} for k, v in arrays.items()]
    manifest = [{"paths": ["faceres-deep.bin"], "weights": entries}]
    (folder / "faceres-deep.bin").write_bytes(b"".join(v.tobytes() for v in arrays.values()))
    model = folder / "faceres-deep.json"
    model.write_text(json.dumps({"weightsManifest": manifest}))
    return model


def _reference(arrays: dict[str, np.ndarray], rgb_pm1: Tensor) -> Tensor:
    """What the graph computes: BGR less ImageNet's means, TensorFlow's SAME padding, ReLU6."""
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}

    def same(x: Tensor, kernel: Tensor, stride: int, groups: int = 1) -> Tensor:
        total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel.shape[-1] - x.shape[-1], 0)
        before, after = total // 2, total - total // 2
        return F.conv2d(F.pad(x, (before, after) * 2), kernel, None, stride, groups=groups)

    x = (rgb_pm1[:, [2, 1, 0]] + 1) * 127.5
    x = x - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    x = same(x, tensors["conv1/convolution/merged_input"].permute(3, 2, 0, 1), 2)
    x = (x + tensors["conv1_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
    for number, (stride, _) in enumerate(BLOCKS, 1):
        depthwise, pointwise = f"conv_dw_{number}", f"conv_pw_{number}"
        kernel = tensors[f"{depthwise}/depthwise_kernel"].permute(2, 3, 0, 1)
        x = same(x, kernel, stride, x.shape[1])
        x = x * tensors[f"{depthwise}_bn/batchnorm_1/mul"][:, None, None]
        x = (x + tensors[f"{depthwise}_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
        x = same(x, tensors[f"{pointwise}/convolution/merged_input"].permute(3, 2, 0, 1), 1)
        x = (x + tensors[f"{pointwise}_bn/batchnorm_1/sub"][:, None, None]).clamp(0, 6)
    pooled = x.mean(dim=(2, 3))
    return pooled / pooled.square().mean(dim=1, keepdim=True).sqrt()


def test_imported_weights_embed_faces_as_the_graph_does(tmp_path: Path) -> None:
    arrays = _arrays()
    output = tmp_path / "faceres.safetensors"
    assert import_faceres.main([str(_write(arrays, tmp_path)), str(output)]) == 0
    embed = load_identity(str(output), "faceres")
    crop = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = _reference(arrays, crop)
    assert expected.std() > 0.1  # of a graph that sees something
    assert torch.allclose(embed.network(crop), expected, atol=1e-4)


@pytest.mark.parametrize("size", [256, 512])
def test_faces_are_seen_without_what_surrounds_them(size: int) -> None:
    image = torch.zeros(1, 3, size, size, requires_grad=True)
    (gradient,) = torch.autograd.grad(IdentityFeatures(FaceRes())(image)[0, :9].sum(), image)
    rows = gradient.abs().sum(dim=(0, 1, 3)).nonzero()
    assert rows.min() == size * 80 // 512
    assert rows.max() == size - size * 80 // 512 - 1


def test_another_model_and_a_cut_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, output = _arrays(), tmp_path / "faceres.safetensors"
    model = _write(arrays, tmp_path)
    weights = tmp_path / "faceres-deep.bin"
    whole = weights.read_bytes()
    for data in (whole[:-400], whole + b"\0\0\0\0"):
        weights.write_bytes(data)
        assert import_faceres.main([str(model), str(output)]) == 1
        assert "is not FaceRes' graph model" in capsys.readouterr().err
    del arrays["conv_pw_13_bn/batchnorm_1/sub"]
    assert import_faceres.main([str(_write(arrays, tmp_path)), str(output)]) == 1
    assert "give faceres-deep.json" in capsys.readouterr().err
    weights.unlink()
    assert import_faceres.main([str(model), str(output)]) == 1
    assert "faceres-deep.bin" in capsys.readouterr().err
    assert not output.exists()


def test_without_a_file_the_message_says_how_to_make_it() -> None:
    with pytest.raises(InputError, match=r"scripts\.import_faceres makes them"):
        load_identity("", "faceres")
