"""`python -m gfpgan_core restore`: photos in, restored photos out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gfpgan_core.config import MAX_SCALE, MIN_SCALE, Backend, Background, MaskKind, RestoreOptions
from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.weights.releases import DETECTORS, RELEASES

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tqdm import tqdm

    from gfpgan_core.pipeline import FaceRestorer
    from gfpgan_core.result import Restoration


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gfpgan_core", description="Restores faces.")
    commands = parser.add_subparsers(dest="command", required=True)
    restore = commands.add_parser("restore", help="restore the faces in photos")
    add = restore.add_argument
    add("inputs", nargs="+", type=Path, metavar="INPUT", help="photos, or folders of photos")
    add("--output", type=Path, default=Path("output"), metavar="DIR", help="default: output")
    add("--version", choices=tuple(RELEASES), default="v1.4", help="default: v1.4")
    add("--weights", type=Path, metavar="FILE", help="weights of your own instead of a version")
    add("--scale", type=float, default=2.0, help=f"{MIN_SCALE:g} to {MAX_SCALE:g}, default: 2")
    add("--background", choices=get_args(Background), default="none", help="default: none")
    add("--blend", type=float, default=1.0, help="0: faces unchanged, 1 (default): restored")
    add("--aligned", action="store_true", help="the inputs are aligned, square faces")
    which = restore.add_mutually_exclusive_group()
    for faces in ("center", "largest"):
        which.add_argument(
            f"--only-{faces}-face", dest="faces", action="store_const", const=faces, default="all"
        )
    add("--min-eye-distance", type=float, default=5.0, metavar="PX", help="default: 5")
    add("--min-score", type=float, default=0.5, help="of a detection, 0 to 1, default: 0.5")
    add(
        "--detector",
        choices=("auto", "centerface", *DETECTORS),
        default="auto",
        help="default: auto",
    )
    add("--mask", choices=get_args(MaskKind), default="auto", help="default: auto")
    add("--format", choices=("auto", "png", "jpg", "webp"), default="auto", help="default: auto")
    add("--save-faces", action="store_true", help="write each face, before and after, as well")
    add("--device", help="cpu, cuda, cuda:1 ...; default: cuda where there is one")
    add(
        "--backend",
        choices=get_args(Backend),
        default="auto",
        help="what runs the network, default: auto, the fastest of equal results",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0, 1 if any photo failed, 2 for a misuse of the command."""
    options = _parser().parse_args(arguments)
    try:
        restore_options = RestoreOptions(
            scale=options.scale,
            blend=options.blend,
            background=options.background,
            faces=options.faces,
            aligned=options.aligned,
            min_eye_distance_px=options.min_eye_distance,
            min_score=options.min_score,
        )
        paths = list(_photos(options.inputs))
        restorer = _load(options)
    except (InputError, WeightsError) as error:
        print(error, file=sys.stderr)
        return 1
    return _restore_all(paths, restorer, restore_options, options)


def _photos(inputs: Iterable[Path]) -> Iterable[Path]:
    """The files named, and the images in the folders named."""
    from gfpgan_core.images import SUFFIXES

    for path in inputs:
        if not path.is_dir():
            yield path  # reading it tells what is wrong with it
            continue
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"{path} holds no image ({', '.join(SUFFIXES)})")
        yield from found


def _load(options: argparse.Namespace) -> FaceRestorer:
    from gfpgan_core.runtime import configure_process

    configure_process()
    from gfpgan_core.pipeline import FaceRestorer

    chosen = {
        "detector": options.detector,
        "mask": options.mask,
        "device": options.device,
        "backend": options.backend,
    }
    if options.weights:
        return FaceRestorer.from_file(options.weights, **chosen)
    return FaceRestorer.from_release(options.version, **chosen)


def _restore_all(
    paths: list[Path],
    restorer: FaceRestorer,
    restore_options: RestoreOptions,
    options: argparse.Namespace,
) -> int:
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    failures = 0
    written: set[Path] = {path.resolve() for path in paths}  # an input is never overwritten
    progress = tqdm(total=len(paths), unit="photo", disable=len(paths) < 2)
    results = zip(paths, restorer.restore_many(paths, restore_options), strict=True)
    with progress, ThreadPoolExecutor(1, thread_name_prefix="encode") as writer:
        before = None  # is written while the next photo is restored
        for path, result in results:
            saved = writer.submit(_save, result, path, options, written)
            failures += _report(before, progress)
            before = path, result, saved
        failures += _report(before, progress)
    if failures:
        print(f"{failures} of {len(paths)} failed", file=sys.stderr)
    return int(failures > 0)


def _report(
    photo: tuple[Path, Restoration | Exception, Future[Path]] | None, progress: tqdm[Any]
) -> int:
    """One line on a photo, once it is written; the number of failures."""
    from gfpgan_core.pipeline import FAILURES

    if photo is None:
        return 0
    path, result, saved = photo
    progress.update()
    try:
        target = saved.result()
    except FAILURES as error:
        progress.write(f"{path}: FAILED: {error}", file=sys.stderr)
        return 1
    assert not isinstance(result, Exception)
    count = len(result.faces)
    found = f"{count} face{'s' * (count != 1)}" if count or not result.crops else "aligned"
    progress.write(f"{path}: {found}, {sum(result.seconds.values()):.1f} s -> {target}")
    return 0


def _save(
    result: Restoration | Exception, source: Path, options: argparse.Namespace, written: set[Path]
) -> Path:
    """Where the result was written: DIR/<stem>.<ext>, numbered if this run took that name."""
    if isinstance(result, Exception):
        raise result
    suffix = result.format_for(options.format)
    target = options.output / f"{source.stem}.{suffix}"
    number = 2
    while target.resolve() in written:
        target = options.output / f"{source.stem}_{number}.{suffix}"
        number += 1
    written.add(target.resolve())
    result.save(target)
    if options.save_faces:
        _save_faces(result, target)
    return target


def _save_faces(restoration: Restoration, target: Path) -> None:
    """DIR/faces/<stem>_<n>.png and the pair <stem>_<n>_before_after.png."""
    import numpy as np

    from gfpgan_core import images

    folder = target.parent / "faces"
    pairs = zip(restoration.crops, restoration.restored_crops, strict=True)
    for number, (before, after) in enumerate(pairs):
        name = f"{target.stem}_{number}"
        images.write(folder / f"{name}.png", images.encode(after, None, "png"))
        pair = images.encode(np.hstack([before, after]), None, "png")
        images.write(folder / f"{name}_before_after.png", pair)


if __name__ == "__main__":
    sys.exit(main())
