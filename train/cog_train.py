"""`POST /trainings`: fine-tune a release, or an earlier training, on an archive of photos."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path as LocalPath
from typing import Optional

from cog import BaseModel, Input, Path

from gfpgan_core import bounds, serving
from gfpgan_core.client_errors import client_text, errors_for_clients
from gfpgan_core.config import GeneratorConfig
from gfpgan_core.detect import load_detector
from gfpgan_core.errors import NO_ROOM_ON_SERVER, InputError, WeightsError
from gfpgan_core.formats import READABLE_TEXT
from gfpgan_core.networks.gfpgan import GFPGAN
from gfpgan_core.runtime import configure_process, release_freed_memory
from gfpgan_core.weights.load import load_file
from gfpgan_core.weights.releases import COMPACT, RELEASES
from train.config import DiscriminatorConfig, LossConfig, TrainConfig
from train.errors import DivergedError, TrainingError
from train.loop import train as run_training
from train.prepare import prepare_faces
from train.unpack import unpack_images

_logger = logging.getLogger(__name__)

MIN_FACES = 4
_LOG_EVERY_STEPS = 10
_FROM_NOTHING = "none"
TRAINABLE = {
    name: release.config
    for name, release in RELEASES.items()
    if isinstance(release.config, GeneratorConfig)
}
"""The releases that a training may start from, which are GFPGAN generators."""
_LOSSES = LossConfig(pyramid=0.1, perceptual_backbone="mobilenet_v2")

_WITHOUT_WEIGHTS = (
    "choose base_version `compact` or `none`, and 0 for perceptual_weight and identity_weight"
)

_files = serving.RequestFiles(serving.MAX_ARCHIVE_BYTES)
if __name__ == "cog_train":  # loaded by Cog's server, by its path: there is no `setup` for it
    _files.start()
    _files.remove_on_sigterm()


class TrainingOutput(BaseModel):
    """What Cog answers: the address of the trained weights."""

    weights: Path


def train(
    train_data: Path = Input(description="zip or tar of photos, aligned faces or not"),
    base_version: str = Input(
        description="Release to start from; `none` starts a small network from nothing",
        default="v1.4",
        choices=["v1", "v1.2", "v1.3", "v1.4", "compact", "none"],
    ),
    base_weights: Optional[Path] = Input(  # noqa: UP045 - Cog parses this
        description="Weights of an earlier training to start from, in place of base_version",
        default=None,
    ),
    steps: int = Input(description="Optimizer steps", default=2000, ge=1, le=200000),
    batch_size: int = Input(description="Faces a step; more are slower", default=4, ge=1, le=64),
    learning_rate: float = Input(
        description="Adam's peak for the generator", default=0.0001, ge=0.0000001, le=0.01
    ),
    face_size: int = Input(
        description="Side of the aligned faces in pixels; 0 takes that of the base",
        default=0,
        choices=[0, 64, 128, 256, 512],
    ),
    seed: int = Input(description="Same seed, same data: same result", default=0, ge=0),
    pixel_weight: float = Input(description="Weight of the L1 loss", default=1, ge=0),
    perceptual_weight: float = Input(
        description="Weight of the MobileNetV2 loss", default=0.15, ge=0
    ),
    adversarial_weight: float = Input(
        description="Weight of the discriminator", default=0.05, ge=0
    ),
    component_weight: float = Input(description="The same for eyes and mouth", default=0.05, ge=0),
    identity_weight: float = Input(description="Weight of the ArcFace loss", default=0, ge=0),
) -> TrainingOutput:
    """Return the averaged weights; start the predictor with them as COG_WEIGHTS.

    Raises:
        InputError: unusable archive, too few faces, or options that don't fit together or diverge.
    """
    with errors_for_clients(_WITHOUT_WEIGHTS), _request(train_data, base_weights):
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        configure_process()
        folder = _files.work_folder()
        start_from, generator = _base(base_version, base_weights, face_size)
        _prepare(train_data, folder, generator.face_size_px)
        config = dataclasses.replace(
            _config(folder, generator, steps, batch_size),
            start_from=start_from,
            losses=dataclasses.replace(
                _LOSSES,
                pixel=pixel_weight,
                perceptual=perceptual_weight,
                adversarial=adversarial_weight,
                component_adversarial=component_weight,
                component_style=100.0 if component_weight else 0.0,
                identity=identity_weight,
            ),
            seed=seed,
            learning_rate=learning_rate,
        )
        made = _trained(config)
        return TrainingOutput(weights=Path(_files.publish(made, "weights")))


@contextlib.contextmanager
def _request(*received: Path | None) -> Iterator[None]:
    """Hold a request's files; at its end give what it freed back to the system.

    Cog's next training may run in another thread, for which malloc doesn't reuse it.
    """
    with _files.request(*received):
        try:
            yield
        finally:
            gc.collect()  # the networks are part of cycles
            release_freed_memory()


def _config(
    folder: LocalPath, generator: GeneratorConfig, steps: int, batch_size: int
) -> TrainConfig:
    """Return a short fine-tuning's configuration, whose parts grow with its steps."""
    return TrainConfig(
        run_folder=str(folder / "run"),
        train_faces=str(folder / "faces"),
        generator=generator,
        discriminators=DiscriminatorConfig(
            narrow=0.5,
            component_narrow=0.5,
            # Fresh discriminators first: a tenth of the run, at most a hundred steps.
            warmup_steps=min(100, steps // 10),
        ),
        steps=steps,
        batch_size=batch_size,
        warmup_steps=min(50, steps // 10),
        ema_half_life_images=batch_size * max(1.0, min(200.0, steps / 10)),
        checkpoint_every_steps=max(1, steps),  # the folder doesn't outlive this call
    )


def _base(
    version: str, base_weights: Path | None, face_size_px: int
) -> tuple[str, GeneratorConfig]:
    """Return what training starts from, and the shape of its generator.

    Raises:
        InputError: a base that can't be had or trained, or another size than its own.
    """
    if version not in (*TRAINABLE, _FROM_NOTHING):
        raise InputError(f"base_version is {version!r}, which can't be trained")
    if base_weights is not None:
        received = _files.received(base_weights, "base_weights", bounds.MAX_WEIGHTS_BYTES)
        path = str(received)
        config = _read_base(received).config
    elif version == _FROM_NOTHING:
        size_px = face_size_px or COMPACT.face_size_px
        factors = tuple(level for level in COMPACT.level_factors if level[0] <= size_px)
        changed = {"face_size_px": size_px, "level_factors": factors}
        return "", GeneratorConfig(**vars(COMPACT) | changed)
    else:
        path = version
        config = TRAINABLE[version]
    if face_size_px not in (0, config.face_size_px):
        raise InputError(
            f"face_size is {face_size_px}, but the base restores faces of {config.face_size_px} px:"
            " leave face_size at 0, or choose base_version none to start from nothing"
        )
    return path, config


def _read_base(path: LocalPath) -> GFPGAN:
    """Return the network of `base_weights`.

    Raises:
        InputError: it isn't one. The text quotes nothing of the file, which the address may have
            brought from inside the server's network.
    """
    try:
        return load_file(path)
    except WeightsError as error:
        _logger.warning("base_weights: %s", error)
        raise InputError(
            "base_weights can't be read as weights of a GFPGAN network: send the .safetensors of"
            " an earlier training, or a .pth with params_ema, whole and as it was downloaded"
        ) from None


def _prepare(train_data: Path, folder: LocalPath, face_size_px: int) -> None:
    """Write the faces of the archive, aligned, to `folder / "faces"`.

    Raises:
        InputError: no archive of photos, or too few faces.
    """
    archive = _files.received(train_data, "train_data", serving.MAX_ARCHIVE_BYTES)
    unpacked = unpack_images(archive, folder / "photos")
    if not unpacked.images:
        raise InputError(
            f"train_data holds no photo that can be read ({unpacked.passed_over or 'it is empty'}):"
            f" send a zip or tar of at least {MIN_FACES} photos with faces, as {READABLE_TEXT}"
        )
    result = prepare_faces(
        unpacked.images,
        folder / "faces",
        load_detector("auto"),
        face_size_px=face_size_px,
        # Half of the eye distance that an aligned face of this size has.
        min_eye_distance_px=face_size_px / 8,
        error_text=client_text,
    )
    # Copies count: who sends a photo several times wants it trained with.
    if not result.faces or len(result.faces) + result.copies < MIN_FACES:
        lines = [result.summary(), *filter(None, [unpacked.passed_over])]
        raise InputError(
            f"train_data has too few usable faces in its {len(unpacked.images)} photos; at least"
            f" {MIN_FACES} are needed. " + "\n".join(lines)
        )
    print(result.summary(), flush=True)


def _trained(config: TrainConfig) -> LocalPath:
    """Train; return the file of the averaged weights.

    Raises:
        InputError: the numbers grew without bounds, or the run can't be written.
    """
    try:
        return run_training(config, _report(config.steps))
    except DivergedError as error:
        _logger.warning("%s", error)
        raise InputError(
            "the training broke off, as its numbers grew without bounds: lower learning_rate, or"
            " the weight of a loss that is above its default"
        ) from None
    except TrainingError as error:
        _logger.warning("%s", error)
        raise InputError(NO_ROOM_ON_SERVER) from None


def _report(steps: int) -> Callable[[int, dict[str, float]], None]:
    """Return a function that prints the progress every few steps, for the training's log."""

    def report(step: int, losses: dict[str, float]) -> None:
        if step % _LOG_EVERY_STEPS == 0 or step in (1, steps):
            values = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
            print(f"step {step}/{steps}: {values}", flush=True)

    return report
