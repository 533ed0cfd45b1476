"""Train the prior: a StyleGAN2 that generates faces, whose decoder a restoration starts from.

Source: StyleGAN2 (arXiv 1912.04958): logistic losses, lazy R1 and path length penalties, style
mixing. Every draw comes from (seed, step, sample): a resumed run repeats them.
"""

from __future__ import annotations

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from gfpgan_core.errors import InputError
from gfpgan_core.networks.stylegan2 import StyleGAN2Decoder
from train.config import TrainConfig
from train.dataset import Sample
from train.ema import Ema
from train.losses import (
    discriminator_adversarial_loss,
    generator_adversarial_loss,
    path_lengths,
)
from train.networks import face_discriminator
from train.optimize import (
    discriminator_optimizer,
    generator_optimizer,
    rate_factor,
    set_rates,
    update,
)
from train.step import gradient_penalty

_MIXING_PROBABILITY = 0.9
_PATH_LENGTH_DECAY = 0.01  # of the running mean that lengths are drawn to


class PriorTrainer:
    """The decoder, its discriminator, and one step of both."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator) -> None:
        if config.generator.mlp_layers < 1:
            raise InputError("a prior is drawn from z: generator.mlp_layers must be at least 1")
        self.config = config
        self.accelerator = accelerator
        self.decoder = StyleGAN2Decoder(config.generator).to(accelerator.device).train()
        self.discriminator = face_discriminator(config).to(accelerator.device)
        self.ema = Ema(self.decoder, config.ema_half_life_images)
        self.networks: dict[str, nn.Module] = {
            "generator": self.decoder,
            "discriminator": self.discriminator,
        }
        self.optimizers = {
            "generator": generator_optimizer(self.decoder, config),
            "discriminators": discriminator_optimizer(
                {"discriminator": self.discriminator}, config
            ),
        }
        self._mean_path_length = 0.0

    @property
    def device(self) -> torch.device:
        """Return the device that the networks are on."""
        return self.accelerator.device

    def scalars(self) -> dict[str, float]:
        """Return what a checkpoint keeps beside the networks."""
        return {"mean_path_length": self._mean_path_length}

    def load_scalars(self, scalars: dict[str, float]) -> None:
        """Restore what `scalars` gave."""
        self._mean_path_length = scalars["mean_path_length"]

    def step(self, batches: list[Sample], step: int) -> dict[str, float]:
        """Train both networks once; return the losses. Only `gt` and `noise_seed` are used.

        Raises:
            TrainingError: a loss is not finite.
        """
        losses = self._discriminator_step(batches, step)
        return losses | self._generator_step(batches, step)

    def _discriminator_step(self, batches: list[Sample], step: int) -> dict[str, float]:
        self.discriminator.requires_grad_(True)
        losses = {"discriminator": torch.zeros((), device=self.device)}
        settings = self.config.losses
        lazy = settings.r1 > 0 and step % settings.r1_every_steps == 0
        for batch in batches:
            with torch.no_grad():
                fake = self._draw(self._codes(batch.noise_seed), batch.noise_seed)
            with self.accelerator.autocast():
                real_logits, fake_logits = self.discriminator(batch.gt), self.discriminator(fake)
            loss = discriminator_adversarial_loss(real_logits.float(), fake_logits.float())
            if lazy:
                penalty = gradient_penalty(self.discriminator, batch.gt)
                losses["r1"] = losses.get("r1", 0) + penalty.detach() / len(batches)
                loss = loss + settings.r1 / 2 * settings.r1_every_steps * penalty
            (loss / len(batches)).backward()
            losses["discriminator"] += loss.detach() / len(batches)
        optimizer = self.optimizers["discriminators"]
        set_rates(optimizer, rate_factor(self.config, step))
        return update(optimizer, losses, self.accelerator, step)

    def _generator_step(self, batches: list[Sample], step: int) -> dict[str, float]:
        self.discriminator.requires_grad_(False)
        losses = {"adversarial": torch.zeros((), device=self.device)}
        settings = self.config.losses
        lazy = settings.path_length > 0 and step % settings.path_length_every_steps == 0
        lengths: list[Tensor] = []
        for batch in batches:
            fake = self._draw(self._codes(batch.noise_seed), batch.noise_seed)
            with self.accelerator.autocast():
                logits = self.discriminator(fake)
            loss = generator_adversarial_loss(logits.float())
            losses["adversarial"] += loss.detach() / len(batches)
            if lazy:
                found = self._path_lengths(batch.noise_seed)
                lengths.append(found.detach())
                penalty = (found - self._mean_path_length).square().mean()
                losses["path_length"] = losses.get("path_length", 0) + penalty.detach() / len(
                    batches
                )
                loss = loss + settings.path_length * settings.path_length_every_steps * penalty
            (loss / len(batches)).backward()
        if lengths:
            mean = self.accelerator.reduce(torch.cat(lengths).mean(), "mean").item()
            self._mean_path_length += _PATH_LENGTH_DECAY * (mean - self._mean_path_length)
        optimizer = self.optimizers["generator"]
        set_rates(optimizer, rate_factor(self.config, step))
        numbers = update(optimizer, losses, self.accelerator, step)
        self.ema.update(self.decoder, self.config.batch_size, (step + 1) * self.config.batch_size)
        return numbers

    def _draw(self, codes: Tensor, seeds: Tensor) -> Tensor:
        with self.accelerator.autocast():
            return self.decoder(codes, noise_seeds=seeds).float()

    def _path_lengths(self, seeds: Tensor) -> Tensor:
        """Return the path lengths of half of the samples, as StyleGAN2 does: they cost memory."""
        seeds = seeds[: max(1, len(seeds) // 2)]
        codes = self._codes(seeds)
        image = self.decoder(codes, noise_seeds=seeds)
        draws = [np.random.default_rng((int(s), 2)).standard_normal(image[0].shape) for s in seeds]
        return path_lengths(image, codes, _tensor(draws, self.device))

    def _codes(self, seeds: Tensor) -> Tensor:
        """Return (N, L, S) style codes, most mixed: of one z up to a layer, of another after it."""
        config = self.config.generator
        codes = []
        for seed in seeds.tolist():
            rng = np.random.default_rng((seed, 1))
            drawn = _tensor([rng.standard_normal((2, config.style_features))], self.device)[0]
            first, second = self.decoder.style_mlp(drawn)
            mixed = rng.random() < _MIXING_PROBABILITY
            crossover = int(rng.integers(1, config.style_count)) if mixed else config.style_count
            codes.append(
                torch.stack([first] * crossover + [second] * (config.style_count - crossover))
            )
        return torch.stack(codes)


def _tensor(draws: list[np.ndarray], device: torch.device) -> Tensor:
    return torch.from_numpy(np.stack(draws)).float().to(device)
