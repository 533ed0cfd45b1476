"""The restoration objective: a GFPGAN generator against its discriminators."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gfpgan_core.config import GeneratorConfig
from gfpgan_core.errors import InputError
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.weights.checkpoint import read_decoder
from gfpgan_core.weights.download import ensure_present
from gfpgan_core.weights.load import load, load_file, load_strictly
from gfpgan_core.weights.releases import PRIOR, RELEASES
from train import checkpoint
from train.balance import image_gradient
from train.config import LossConfig, TrainConfig
from train.dataset import Sample
from train.ema import Ema
from train.features import load_identity, load_perceptual
from train.grow import adapted
from train.networks import component_discriminators, face_discriminator, patch_discriminator
from train.optimize import (
    discriminator_factor,
    discriminator_optimizer,
    generator_optimizer,
    load_optimizer,
    rate_factor,
    set_rates,
    update,
)
from train.projected import ProjectedDiscriminator
from train.step import (
    Crop,
    LossNetworks,
    discriminator_losses,
    generator_losses,
    gradient_penalty,
    random_crop,
)


class RestorationTrainer:
    """The networks of a run, their optimizers, and one step of them all."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator) -> None:
        self.config = config
        self.accelerator = accelerator
        device = accelerator.device
        self.generator: GFPGAN = _generator(config).to(device)
        self.generator.train().requires_grad_(True)
        if config.freeze_decoder:
            self.generator.stylegan_decoder.requires_grad_(False)
        self.loss_networks = _loss_networks(config, device)
        self.ema = Ema(self.generator, config.ema_half_life_images)
        self.networks: dict[str, nn.Module] = {"generator": self.generator}
        self.networks |= self.loss_networks.learning()
        self.optimizers = {"generator": generator_optimizer(self.generator, config)}
        if learning := self.loss_networks.learning():
            self.optimizers["discriminators"] = discriminator_optimizer(learning, config)
            if config.discriminators.start_from:
                self._load_discriminators(Path(config.discriminators.start_from))

    @property
    def device(self) -> torch.device:
        """Return the device that the networks are on."""
        return self.accelerator.device

    def scalars(self) -> dict[str, float]:
        """Return what a checkpoint keeps beside the networks."""
        return {}

    def load_scalars(self, scalars: dict[str, float]) -> None:
        """Restore what `scalars` gave."""

    def step(self, batches: list[Sample], step: int) -> dict[str, float]:
        """Train every network once, on this process's share of the batch; return the losses.

        Raises:
            TrainingError: a loss is not finite.
        """
        if step < self._first_step():
            with torch.no_grad():
                fakes = [self._restore(batch, pyramid=False)[0] for batch in batches]
            return self._discriminator_step(batches, step, fakes)
        losses, fakes = self._generator_step(batches, step)
        if self.loss_networks.learning():
            losses |= self._discriminator_step(batches, step, fakes)
        return losses

    def _first_step(self) -> int:
        """Return the first step in which the generator learns."""
        return self.config.discriminators.warmup_steps if self.loss_networks.learning() else 0

    def _restore(self, batch: Sample, *, pyramid: bool) -> tuple[Tensor, list[Tensor]]:
        with self.accelerator.autocast():
            if pyramid:
                image, rgbs = self.generator.forward_with_pyramid(
                    batch.lq, noise_seeds=batch.noise_seed
                )
            else:
                image, rgbs = self.generator(batch.lq, noise_seeds=batch.noise_seed), []
        return image.float(), rgbs

    def generator_losses(
        self, batch: Sample, step: int
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the generator's losses for a batch, its image, and the leaf they depend on.

        The leaf is the image without its history: each term's gradient ends there, so that terms
        can be balanced. The pyramid's loss is of the U-Net's own images and has their history.
        """
        image, rgbs = self._restore(batch, pyramid=_pyramid_is_on(self.config.losses, step))
        leaf = image.detach().requires_grad_(True)
        losses = generator_losses(
            leaf,
            rgbs,
            batch,
            self.loss_networks,
            self.config.losses,
            self.accelerator.autocast,
            self._crop(step),
        )
        return losses, image, leaf

    def _crop(self, step: int) -> Crop:
        """Return what the projected and the patch discriminator see, by seed and step alone."""
        rng = np.random.default_rng((self.config.seed, step))
        size_px = self.config.generator.face_size_px
        return random_crop(size_px, self.config.discriminators.crop_px, rng)

    def _backward(self, batch: Sample, step: int, share: float) -> tuple[dict[str, Tensor], Tensor]:
        """Add `share` of a micro-batch's gradients; return losses and figures, and the image."""
        weights = self.config.losses
        losses, image, leaf = self.generator_losses(batch, step)
        of_image = {name: loss for name, loss in losses.items() if name != "pyramid"}
        gradient, figures = image_gradient(of_image, leaf, weights, self._mean_over_processes)
        tensors, gradients = [image], [share * gradient]
        if "pyramid" in losses:
            tensors.append(share * weights.pyramid * losses["pyramid"])
            gradients.append(torch.ones_like(tensors[-1]))
        torch.autograd.backward(tensors, gradients)
        total = torch.stack(
            [figures.get(f"{n}_weight", getattr(weights, n)) * loss for n, loss in losses.items()]
        ).sum()
        return losses | figures | {"total": total}, image.detach()

    def _mean_over_processes(self, values: Tensor) -> Tensor:
        if self.accelerator.num_processes == 1:
            return values
        return torch.as_tensor(self.accelerator.reduce(values, "mean"))

    def _generator_step(
        self, batches: list[Sample], step: int
    ) -> tuple[dict[str, float], list[Tensor]]:
        """Return the losses, and the images of each micro-batch for the discriminators."""
        self.loss_networks.set_learning(False)
        fakes = []
        sums: dict[str, Tensor] = {}
        for batch in batches:
            losses, image = self._backward(batch, step, 1 / len(batches))
            fakes.append(image)
            sums = _added(sums, losses, len(batches))
        optimizer = self.optimizers["generator"]
        set_rates(optimizer, rate_factor(self.config, step, self._first_step()))
        limit = self.config.gradient_clip_norm
        numbers = update(optimizer, sums, self.accelerator, step, max_norm=limit or math.inf)
        done = step + 1 - self._first_step()
        self.ema.update(self.generator, self.config.batch_size, done * self.config.batch_size)
        return numbers, fakes

    def _load_discriminators(self, folder: Path) -> None:
        """Load the discriminators of another run, and their optimizer's state.

        Raises:
            InputError: the run has no checkpoint, or other discriminators.
        """
        found = checkpoint.load_newest(folder)
        wanted = [name for name in self.networks if name != "generator"]
        missing = wanted if found is None else [n for n in wanted if n not in found.networks]
        if found is None or missing:
            raise InputError(
                f"discriminators.start_from is {folder}, which holds no checkpoint with"
                f" {', '.join(missing)}: name the run folder of a stage with the same losses, or"
                " leave it empty"
            )
        for name in wanted:
            self.networks[name].load_state_dict(found.networks[name])
        load_optimizer(self.optimizers["discriminators"], found.optimizers["discriminators"])

    def _discriminator_step(
        self, batches: list[Sample], step: int, fakes: list[Tensor]
    ) -> dict[str, float]:
        self.loss_networks.set_learning(True)
        settings = self.config.losses
        sums: dict[str, Tensor] = {}
        for batch, fake in zip(batches, fakes, strict=True):
            losses = discriminator_losses(
                fake, batch, self.loss_networks, self.accelerator.autocast, self._crop(step)
            )
            total = torch.stack(list(losses.values())).sum()
            (total / len(batches)).backward()
            sums = _added(sums, losses, len(batches))
        discriminator = self.loss_networks.discriminator
        if discriminator is not None and settings.r1 and step % settings.r1_every_steps == 0:
            for batch in batches:
                penalty = gradient_penalty(discriminator, batch.gt)
                share = settings.r1 / 2 * settings.r1_every_steps / len(batches)
                (share * penalty).backward()
                sums = _added(sums, {"r1": penalty}, len(batches))
        optimizer = self.optimizers["discriminators"]
        set_rates(optimizer, discriminator_factor(self.config, step))
        return update(optimizer, sums, self.accelerator, step)


def _pyramid_is_on(losses: LossConfig, step: int) -> bool:
    ends = losses.pyramid_end_step
    return losses.pyramid > 0 and (ends == 0 or step < ends)


def _added(sums: dict[str, Tensor], losses: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """Return the losses' mean over micro-batches, summed up as they come."""
    shares = {name: loss.detach() / count for name, loss in losses.items()}
    return sums | {n: sums[n] + share if n in sums else share for n, share in shares.items()}


def _generator(config: TrainConfig) -> GFPGAN:
    """Build the generator: from a release, from a file, with a prior's decoder, or from nothing.

    Raises:
        InputError: the configuration names another shape than the weights have.
    """
    if not config.start_from:
        generator = GFPGAN(config.generator)
        if config.prior:
            take_prior(generator, config.prior)
        return generator
    if config.start_from in RELEASES:
        network = load(config.start_from)
        if not isinstance(network, GFPGAN):
            raise InputError(
                f"start_from is {config.start_from!r}, which is no GFPGAN: only GFPGAN generators"
                " are trained"
            )
    else:
        network = load_file(Path(config.start_from))
    if network.config != config.generator and config.adapt_start:
        torch.manual_seed(config.seed)  # the new channels' values
        return adapted(network, config.generator)
    if network.config != config.generator:
        raise InputError(
            f"start_from {config.start_from!r} has {_difference(network.config, config.generator)}:"
            " let the configuration's generator say the same, or set adapt_start"
        )
    return network


def _difference(found: GeneratorConfig, wanted: GeneratorConfig) -> str:
    return ", ".join(
        f"{name} {value!r} where the configuration says {getattr(wanted, name)!r}"
        for name, value in vars(found).items()
        if value != getattr(wanted, name)
    )


def take_prior(generator: GFPGAN, prior: str) -> None:
    """Load a prior into the decoder.

    Args:
        generator: whose decoder is changed, in place.
        prior: a file, or `official`, which is fetched if it is missing.

    Raises:
        WeightsError: it can't be had, is damaged, or doesn't fit the decoder.
    """
    is_official = prior == "official"
    path = ensure_present(PRIOR) if is_official else Path(prior)
    state = read_decoder(path, PRIOR.sha256 if is_official else "")
    load_strictly(generator.stylegan_decoder, state, path)


def _loss_networks(config: TrainConfig, device: torch.device) -> LossNetworks:
    """Build what the active terms need, nothing else.

    Raises:
        InputError: pretrained weights can't be had.
    """
    losses = config.losses
    discriminator, projected, patch, parts, perceptual, identity = (None,) * 6
    if losses.adversarial:
        discriminator = face_discriminator(config).to(device)
    if losses.projected_adversarial:
        switch = "losses.projected_adversarial=0"
        features = load_perceptual("mobilenet_v2", losses.projected_weights, switch)
        projected = ProjectedDiscriminator(features).to(device)
    if losses.patch_adversarial:
        patch = patch_discriminator(config).to(device)
    if losses.component_adversarial:
        found = component_discriminators(config)
        parts = {name: network.to(device) for name, network in found.items()}
    if losses.perceptual or losses.style:
        switches = "losses.perceptual=0 and losses.style=0"
        perceptual = load_perceptual(
            losses.perceptual_backbone, losses.perceptual_weights, switches
        ).to(device)
    if losses.identity:
        identity = load_identity(losses.identity_weights, losses.identity_network).to(device)
    return LossNetworks(discriminator, projected, patch, parts, perceptual, identity)
