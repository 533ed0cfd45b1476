"""The discriminators that learn beside the generator, and how hard they pull."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
import upstream
from torch import Tensor, nn

from gfpgan_core import compat
from gfpgan_core.errors import InputError
from train.arcface import ArcFace
from train.balance import image_gradient
from train.config import DiscriminatorConfig, LossConfig, TrainConfig
from train.discriminators import (
    ComponentDiscriminator,
    StyleGAN2Discriminator,
    high_pass,
    stddev_group_of,
)
from train.features import PerceptualFeatures
from train.optimize import discriminator_factor, discriminator_optimizer, rate_factor
from train.projected import ProjectedDiscriminator, normalized
from train.step import Crop, random_crop


@pytest.fixture(autouse=True)
def basicsr_imports() -> None:
    compat.restore_functional_tensor()


def _features() -> PerceptualFeatures:
    """Two scales of a small network of MobileNetV2's form, frozen."""
    torch.manual_seed(0)
    body = torchvision.models.mobilenet_v2(width_mult=0.25).features
    return PerceptualFeatures(body, {1: 1.0, 3: 1.0})


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("batch", "wanted", "group"),
    [(1, 4, 1), (2, 4, 2), (3, 4, 3), (4, 4, 4), (5, 4, 5), (6, 4, 3), (8, 4, 4), (10, 4, 2)],
)
def test_a_batch_of_any_size_has_a_minibatch_deviation(batch: int, wanted: int, group: int) -> None:
    assert stddev_group_of(batch, wanted) == group
    discriminator = StyleGAN2Discriminator(8, narrow=0.03125, stddev_group=wanted)
    feat = _random(batch, 16, 4, 4)
    found = discriminator.minibatch_stddev(feat)
    parted = feat.reshape(group, batch // group, 16, 4, 4)
    for sample in range(batch):
        own = parted[:, sample % (batch // group)]
        expected = (own.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(found[sample], expected.expand(1, 4, 4))


def test_the_high_pass_keeps_no_flat_part_and_all_of_the_finest() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32)
    assert high_pass(ramp)[..., 2:-2].abs().max() < 1e-6
    checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16).expand(1, 3, 32, 32)
    torch.testing.assert_close(high_pass(checks), checks)  # the binomial blur of it is 0


def test_a_high_pass_discriminator_sees_a_detail_that_the_plain_one_hardly_sees() -> None:
    change = {}
    for gain in (0.0, 8.0):
        torch.manual_seed(1)
        discriminator = ComponentDiscriminator(0.125, high_pass_gain=gain)
        image = _random(1, 3, 32, 32) * 0.5
        checks = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(16, 16) * 0.02
        before, after = (discriminator(i)[0] for i in (image, image + checks))
        change[gain] = ((after - before).norm() / before.std()).item()
    assert change[8.0] > 3 * change[0.0]


def test_the_projected_discriminator_has_a_map_for_each_scale() -> None:
    discriminator = ProjectedDiscriminator(_features(), width=8)
    sides = [logits.shape for logits in discriminator(_random(2, 3, 64, 64))]
    assert sides == [(2, 1, side, side) for side in (32, 16)]


def test_its_heads_have_spectral_norm_1_and_its_features_never_learn() -> None:
    discriminator = ProjectedDiscriminator(_features(), width=8)
    for _ in range(20):  # power iterations
        discriminator(_random(1, 3, 16, 16))
    for head in discriminator.heads:
        for conv in (head.get_submodule("conv1"), head.get_submodule("conv2")):
            weight = conv.weight
            assert isinstance(weight, Tensor)
            norm = torch.linalg.matrix_norm(weight.detach().flatten(1), ord=2)
            assert norm.item() == pytest.approx(1, abs=0.05)
    torch.autograd.backward([m.mean() for m in discriminator(_random(1, 3, 32, 32))])
    assert all(p.grad is not None for p in discriminator.heads.parameters())
    assert all(p.grad is None for p in discriminator.features.parameters())


def test_features_are_divided_by_each_samples_own_deviation() -> None:
    feat = torch.cat([_random(1, 5, 8, 8), 100 * _random(1, 5, 8, 8, seed=1)])
    deviations = normalized(feat).std(dim=(1, 2, 3))
    torch.testing.assert_close(deviations, torch.ones(2), atol=3e-3, rtol=0)


@pytest.mark.parametrize("kind", ["projected", "patch"])
def test_each_learns_to_tell_sharp_from_blurred_within_few_steps(kind: str) -> None:
    """What they are there for: soon they know the sharp ones of images never seen."""
    torch.manual_seed(0)
    network: nn.Module = (
        ProjectedDiscriminator(_features(), width=8)
        if kind == "projected"
        else ComponentDiscriminator(0.125, high_pass_gain=8)
    )

    def logits(image: Tensor) -> list[Tensor]:
        found = network(image)
        return found if kind == "projected" else [found[0]]

    def pair(seed: int) -> tuple[Tensor, Tensor]:
        small = _random(4, 3, 8, 8, seed=seed)
        sharp = F.interpolate(small, size=32, mode="nearest")
        return sharp, F.avg_pool2d(F.pad(sharp, (1, 1, 1, 1), mode="replicate"), 3, 1)

    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=5e-3, betas=(0.0, 0.99))
    for step in range(30):
        sharp, blurred = map(logits, pair(step))
        losses = [F.softplus(-r).mean() + F.softplus(f).mean() for r, f in zip(sharp, blurred)]  # noqa: B905
        optimizer.zero_grad()
        torch.autograd.backward(losses)
        optimizer.step()
    with torch.no_grad():
        sharp, blurred = map(logits, pair(1000))
    means = [torch.stack([m.mean(dim=(1, 2, 3)) for m in maps]).sum(0) for maps in (sharp, blurred)]
    assert means[0].min() > means[1].max()


def _pull(**weights: float | bool) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The gradient and the figures of a made-up objective, and each term's own gradient."""
    torch.manual_seed(0)
    image = _random(2, 3, 16, 16).requires_grad_(True)
    half = torch.zeros_like(image)
    half[..., :8] = 1  # the component sees the left half
    losses = {
        "pixel": (image - 0.3).abs().mean(),
        "style": image.square().sum(),
        "patch_adversarial": 50 * image.sin().sum(),
        "component_adversarial": 1e-3 * (half * image).exp().sum(),
    }
    own = {n: torch.autograd.grad(x, image, retain_graph=True)[0] for n, x in losses.items()}
    settings = LossConfig(style=0.5, **weights)  # type: ignore[arg-type]
    gradient, figures = image_gradient(losses, image, settings, lambda values: values)
    return gradient, figures, own


def test_adaptive_weights_are_ratios_of_gradients_over_the_pixels_seen() -> None:
    gradient, figures, own = _pull(
        patch_adversarial=1.5, component_adversarial=0.5, adaptive_weight=True
    )
    pixel = own["pixel"]
    patch = own["patch_adversarial"] * 1.5 * pixel.norm() / own["patch_adversarial"].norm()
    component = own["component_adversarial"]
    seen = pixel[..., :8].norm()
    component = component * 0.5 * seen / component.norm()
    expected = pixel + 0.5 * own["style"] + patch + component
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-4)
    assert figures["patch_adversarial_ratio"].item() == pytest.approx(1.5, rel=1e-4)
    assert figures["component_adversarial_ratio"].item() == pytest.approx(0.5, rel=1e-4)
    assert figures["patch_adversarial_gradient"].item() == pytest.approx(
        own["patch_adversarial"].norm().item(), rel=1e-5
    )


def test_fixed_weights_are_the_plain_sum_and_their_ratio_is_told() -> None:
    gradient, figures, own = _pull(patch_adversarial=0.02, component_adversarial=0.5)
    expected = own["pixel"] + 0.5 * own["style"]
    expected = expected + 0.02 * own["patch_adversarial"] + 0.5 * own["component_adversarial"]
    torch.testing.assert_close(gradient, expected)
    ratio = 0.02 * own["patch_adversarial"].norm() / own["pixel"].norm()
    assert figures["patch_adversarial_ratio"].item() == pytest.approx(ratio.item(), rel=1e-4)


def test_an_adaptive_weight_needs_a_pixel_term() -> None:
    with pytest.raises(InputError, match="adaptive_weight"):
        LossConfig(pixel=0, adaptive_weight=True)


def _config(**changes: object) -> TrainConfig:
    return TrainConfig("run", "faces", steps=110, warmup_steps=10, **changes)  # type: ignore[arg-type]


def test_discriminators_keep_their_rate_where_the_generators_falls() -> None:
    config = _config()
    assert rate_factor(config, 109) < 0.01
    assert [discriminator_factor(config, step) for step in (0, 60, 109)] == [1, 1, 1]
    upstream = _config(discriminators=DiscriminatorConfig(schedule="generator"))
    assert discriminator_factor(upstream, 60) == rate_factor(upstream, 60) == pytest.approx(0.5)


def test_the_rate_stays_then_falls_to_its_final_share() -> None:
    config = _config(constant_share=0.6, final_rate=0.1)
    found = [rate_factor(config, step) for step in (10, 69, 90, 110)]
    assert found == pytest.approx([1, 1, 0.55, 0.1])


def test_the_projected_heads_have_a_rate_of_their_own_and_no_lazy_penalty_without_one() -> None:
    first, second = (nn.Linear(2, 2) for _ in range(2))
    settings = DiscriminatorConfig(learning_rate=2e-3, projected_learning_rate=5e-4)
    for adversarial, share in ((0.0, 1), (1.0, 16 / 17)):
        losses = LossConfig(adversarial=adversarial)
        networks = {"projected": second, "patch": first}
        optimizer = discriminator_optimizer(
            networks, _config(discriminators=settings, losses=losses)
        )
        rates = [group["initial_lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([2e-3 * share, 5e-4 * share])


def test_the_components_have_a_beta_of_their_own() -> None:
    networks: dict[str, nn.Module] = {
        name: nn.Linear(2, width) for name, width in (("discriminator", 1), ("mouth", 3))
    }
    for beta1, expected in ((0.9, [(0.0, 3), (0.9, 9)]), (0.0, [(0.0, 12)])):
        settings = DiscriminatorConfig(component_adam_beta1=beta1)
        optimizer = discriminator_optimizer(networks, _config(discriminators=settings))
        found = [
            (group["betas"][0], sum(p.numel() for p in group["params"]))
            for group in optimizer.param_groups
        ]
        assert found == expected


def test_crops_lie_inside_and_the_whole_face_is_taken_where_there_is_no_room() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    crops = [random_crop(512, 256, rng) for _ in range(300)]
    assert {crop.side for crop in crops} == {256}
    tops, lefts = zip(*((crop.top, crop.left) for crop in crops), strict=True)
    assert 20 <= min(tops) < 30 and 226 < max(tops) <= 236
    assert 60 <= min(lefts) < 70 and 186 < max(lefts) <= 196
    assert random_crop(256, 0, rng) == random_crop(256, 256, rng) == Crop(0, 0, 256)
    image = torch.arange(64.0).reshape(1, 1, 8, 8)
    assert Crop(2, 3, 2).of(image).flatten().tolist() == [19, 20, 27, 28]


@pytest.mark.parametrize("size_px", [64, 128])
def test_discriminators_equal_upstreams(size_px: int) -> None:
    from basicsr.archs.stylegan2_arch import StyleGAN2Discriminator as Theirs

    torch.manual_seed(0)
    theirs = Theirs(size_px, channel_multiplier=1, narrow=0.25)
    upstream.fill_zeros(theirs)
    mine = StyleGAN2Discriminator(size_px, channel_multiplier=1, narrow=0.25)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    image = torch.rand(4, 3, size_px, size_px) * 2 - 1
    with upstream.cpu_activations():
        expected = theirs(image)
    assert torch.allclose(mine(image), expected, atol=1e-4, rtol=1e-4)


def test_component_discriminators_equal_upstreams() -> None:
    from gfpgan.archs.gfpganv1_arch import FacialComponentDiscriminator

    torch.manual_seed(0)
    theirs = FacialComponentDiscriminator()
    upstream.fill_zeros(theirs)
    mine = ComponentDiscriminator()
    mine.load_state_dict(theirs.state_dict(), strict=True)
    crop = torch.rand(2, 3, 80, 80) * 2 - 1
    ours_logits, ours_features = mine(crop)
    with upstream.cpu_activations():
        theirs_logits, theirs_features = theirs(crop, return_feats=True)
    assert torch.allclose(ours_logits, theirs_logits, atol=1e-4)
    for ours_feat, theirs_feat in zip(ours_features, theirs_features, strict=True):
        assert torch.allclose(ours_feat, theirs_feat, atol=1e-4)


def test_arcface_equals_upstreams() -> None:
    from gfpgan.archs.arcface_arch import ResNetArcFace

    torch.manual_seed(0)
    theirs = ResNetArcFace("IRBlock", [2, 2, 2, 2], use_se=False).eval()
    mine = ArcFace().eval()
    mine.load_state_dict(theirs.state_dict(), strict=True)
    gray = torch.rand(2, 1, 128, 128) * 2 - 1
    assert torch.allclose(mine(gray), theirs(gray), atol=1e-4)
