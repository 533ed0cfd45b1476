"""Measure pictures that any tool has restored: folders of results, with their truths or alone.

    python -m scripts.evaluate_results ours theirs --truths truths --csv figures.csv --plot plot.png
    python -m scripts.evaluate_results LFW-Test/ours

The field's test sets are such folders: CelebA-Test has truths, LFW-Test, WebPhoto-Test and
CelebChild-Test have none; papers give their FID to FFHQ (`--reference ffhq`). A result's truth has
its name, in the same sub-folder, whatever its format; `--suffix _00` is what a tool has added to
the names. PSNR and SSIM are of RGB, and of Y (BT.601, 16 to 235, as basicsr has it); SSIM has a
Gaussian window of sigma 1.5. What needs weights that are not here is named and left out; pictures
that can't be measured are named as well.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import functools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfpgan_core import images
from gfpgan_core.detect import FaceDetector, load_detector
from gfpgan_core.errors import InputError
from gfpgan_core.images import ImageU8
from train import metrics as networks
from train.metrics import Metrics, load_metrics
from train.validate import compare, niqe, psnr_and_ssim

_NEEDS = {
    "lpips": "LPIPS: the package lpips, and AlexNet in torch's hub folder",
    "inception": "FID: torchvision's Inception in torch's hub folder",
    "identity": "identity: ArcFace in the weights' folder",
}


@dataclass(frozen=True)
class Figures:
    """Of one result; None: not measured."""

    psnr_rgb_db: float | None = None
    psnr_y_db: float | None = None
    ssim_rgb: float | None = None
    ssim_y: float | None = None
    niqe: float | None = None
    """Lower is better, and so it is for the next three."""
    lpips: float | None = None
    identity_degrees: float | None = None
    """Angle between ArcFace's embeddings of the result and of the truth ("Deg.")."""
    landmarks_px: float | None = None
    """Mean distance of the five landmarks that CenterFace finds in both, the eyes of the truth
    brought to 126 px from each other, as in a crop of 512 px ("LMD")."""


_MIN_SIDE_PX = 11  # of SSIM's window

NAMES = tuple(one.name for one in dataclasses.fields(Figures))


def luma(image: ImageU8) -> NDArray[np.float64]:
    """Return Y of (H, W, 3) RGB by BT.601: (H, W), 16 to 235."""
    return np.asarray(16 + image @ np.array([65.481, 128.553, 24.966]) / 255, np.float64)


def measure(
    image: ImageU8, truth: ImageU8 | None, weights: Metrics, detector: FaceDetector | None
) -> Figures:
    """Return the figures of one result, (H, W, 3) RGB.

    Raises:
        InputError: it hasn't the size of its truth, or is too small to be measured.
    """
    if min(image.shape[:2]) < _MIN_SIDE_PX:
        raise InputError(f"it is {_size(image)} px; at least {_MIN_SIDE_PX} a side are measured")
    if truth is None:
        return Figures(niqe=_finite(niqe(image)))
    if image.shape != truth.shape:
        raise InputError(f"it is {_size(image)} px, and its truth {_size(truth)}: resize one first")
    rgb, y = compare(image, truth), psnr_and_ssim(luma(image), luma(truth))
    pm1 = [images.to_pm1(one)[None] for one in (image, truth)]
    degrees = None
    if weights.identity:
        cosine = networks.identity_similarity(weights.identity, *pm1)
        degrees = math.degrees(math.acos(min(1.0, max(-1.0, cosine))))
    return Figures(
        psnr_rgb_db=rgb.psnr_db,
        psnr_y_db=y[0],
        ssim_rgb=rgb.ssim,
        ssim_y=y[1],
        niqe=_finite(rgb.niqe),
        lpips=networks.perceptual_distance(weights.lpips, *pm1) if weights.lpips else None,
        identity_degrees=degrees,
        landmarks_px=landmark_distance(detector, image, truth) if detector else None,
    )


def landmark_distance(detector: FaceDetector, image: ImageU8, truth: ImageU8) -> float | None:
    """Return the mean distance of the largest face's landmarks; None where one shows no face."""
    found = [detector(one) for one in (image, truth)]
    if not all(found):
        return None
    face, true = (max(faces, key=lambda one: one.eye_distance_px) for faces in found)
    return face.distance_to(true) * 126 / true.eye_distance_px


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _size(image: ImageU8) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def pictures_in(folder: Path, suffix: str = "") -> dict[str, Path]:
    """Return the pictures of a folder and its folders, by what pairs them: path without ending.

    Raises:
        InputError: there is none, or two have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in images.SUFFIXES or path.name.startswith("."):
            continue
        name = str(path.relative_to(folder).with_suffix("")).removesuffix(suffix)
        if name in found:
            raise InputError(f"{found[name]} and {path} would be results of one picture")
        found[name] = path
    if not found:
        raise InputError(f"{folder} holds no picture")
    return found


def _measured(
    folder: Path,
    results: dict[str, Path],
    truths: dict[str, Path],
    options: argparse.Namespace,
    weights: Metrics,
) -> Iterator[tuple[str, Figures]]:
    """Yield name and figures of each result; what can't be measured is said."""
    detector = load_detector("centerface") if truths and not options.no_landmarks else None
    for name in sorted(truths.keys() - results.keys()):
        print(f"{folder}: no result for {name}", file=sys.stderr)
    for name, path in results.items():
        if truths and name not in truths:
            print(f"{path}: has no truth", file=sys.stderr)
            continue
        try:
            truth = images.read_rgb(truths[name]) if truths else None
            yield name, measure(images.read_rgb(path), truth, weights, detector)
        except InputError as error:
            print(f"{path}: {error}", file=sys.stderr)


def _left_out(weights: Metrics, *, has_truths: bool, has_reference: bool) -> str:
    """Return a line on what isn't measured: for lack of weights, or of pictures to compare with."""
    wanted = [*_NEEDS] if has_truths else ["inception"] if has_reference else []
    missing = [_NEEDS[name] for name in wanted if getattr(weights, name) is None]
    if not has_truths:
        missing.append("all that compares with a truth: --truths")
    if not has_reference:
        missing.append("FID: --reference or --truths")
    return f"left out, as something is missing: {'; '.join(missing) or 'nothing'}"


def _fid(results: list[Path], reference: list[Path], weights: Metrics) -> float | None:
    """Return the Frechet distance of the results to the reference."""
    if weights.inception is None or not reference or not results:
        return None
    embed = functools.partial(networks.embed, weights.inception)
    features = [
        np.concatenate([embed(images.to_pm1(images.read_rgb(path))[None]) for path in paths])
        for paths in (results, reference)
    ]
    return networks.frechet_distance(*features)


def mean(figures: list[Figures], name: str) -> float | None:
    """Return the mean of a figure over the pictures that have it."""
    values = [value for one in figures if (value := getattr(one, name)) is not None]
    return float(np.mean(values)) if values else None


def write_csv(path: Path, rows: dict[str, dict[str, Figures]]) -> None:
    """Write a line for each picture of each folder."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("folder", "picture", *NAMES))
        for folder, figures in rows.items():
            for picture, one in figures.items():
                writer.writerow((folder, picture, *dataclasses.astuple(one)))


def draw(path: Path, rows: dict[str, dict[str, Figures]]) -> None:
    """Draw how each figure is spread over the pictures, for each folder.

    Raises:
        InputError: matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("a plot needs matplotlib: pip install matplotlib") from error
    every = [one for figures in rows.values() for one in figures.values()]
    shown = [name for name in NAMES if mean(every, name) is not None]
    figure = Figure(figsize=(3.2 * len(shown), 4.2), layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
        values = [
            [value for one in figures.values() if (value := getattr(one, name)) is not None]
            for figures in rows.values()
        ]
        axes.boxplot(values, tick_labels=[Path(folder).name for folder in rows])
        axes.set_title(name)
        axes.tick_params(axis="x", rotation=30)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, or 1 after a message on what was wrong or couldn't be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results", type=Path, nargs="+", help="folders of restored pictures")
    add("--truths", type=Path, help="folder of what they should be; without it: NIQE alone")
    add("--reference", type=Path, help="folder that FID compares with, such as FFHQ's faces")
    add("--suffix", default="", help="what the tool has added to the names, such as _00")
    add("--no-landmarks", action="store_true", help="leave out the distance of landmarks")
    add("--csv", type=Path, help="write a line for each picture")
    add("--plot", type=Path, help="PNG or SVG: how the figures are spread over the pictures")
    options = parser.parse_args(arguments)
    is_complete = True
    try:
        truths = pictures_in(options.truths) if options.truths else {}
        reference = pictures_in(options.reference) if options.reference else truths
        weights = load_metrics("", "cpu") if reference else Metrics()
        print(_left_out(weights, has_truths=bool(truths), has_reference=bool(reference)) + "\n")
        print(f"| folder | pictures | {' | '.join(NAMES)} | FID |\n|{'---|' * (len(NAMES) + 3)}")
        rows: dict[str, dict[str, Figures]] = {}
        for folder in options.results:
            results = pictures_in(folder, options.suffix)
            figures = rows[str(folder)] = dict(_measured(folder, results, truths, options, weights))
            is_complete = is_complete and figures.keys() == results.keys() | truths.keys()
            means = [mean([*figures.values()], name) for name in NAMES]
            fid = _fid([results[name] for name in figures], [*reference.values()], weights)
            cells = [*means, fid]
            shown = " | ".join("" if value is None else f"{value:.3f}" for value in cells)
            print(f"| {folder} | {len(figures)} | {shown} |", flush=True)
        if options.csv:
            write_csv(options.csv, rows)
        if options.plot:
            draw(options.plot, rows)
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
