"""Upstream's command line: its options in, its files in its folders out."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfpgan_core.cli.report import Report, exit_status
from gfpgan_core.errors import InputError, error_text
from gfpgan_core.formats import FORMAT_OF_SUFFIX
from gfpgan_core.weights.releases import RELEASES

if TYPE_CHECKING:
    from gfpgan_core.images import ImageU8
    from gfpgan_core.upstream.restorer import GFPGANer

# Upstream's word for a version -> its file there, the arch, the channel multiplier.
_UPSTREAMS = {
    "1": ("GFPGANv1.pth", "original", 1),
    "1.2": ("GFPGANCleanv1-NoCE-C2.pth", "clean", 2),
    "1.3": ("GFPGANv1.3.pth", "clean", 2),
    "1.4": ("GFPGANv1.4.pth", "clean", 2),
    "RestoreFormer": ("RestoreFormer.pth", "RestoreFormer", 2),
}
_VERSIONS = (*_UPSTREAMS, *(name for name in RELEASES if name not in _UPSTREAMS))

# Where upstream's own program looks for a file before it downloads it.
_FOLDERS = ("experiments/pretrained_models", "gfpgan/weights")

_UNTILED_PX = 1 << 20


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status: 0, 1 if anything failed, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    report = Report()
    return exit_status(lambda: _restore_all(options, report), report)


def _restore_all(options: argparse.Namespace, report: Report) -> int:
    photos = list(_photos(Path(options.input)))
    report.tally.photos = len(photos)
    enhancer = _load(options, report)
    writer = _Writer(options, photos, report)
    for photo in photos:
        _restore(photo, options, enhancer, writer, report)
    report.line(f"{report.tally} -> {options.output}")
    return int(report.tally.failed > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gfpgan_core.upstream",
        description="Restores faces, with upstream's options and files.",
    )
    add = parser.add_argument
    add("-i", "--input", default="inputs/whole_imgs", help="photo or folder (inputs/whole_imgs)")
    add("-o", "--output", default="results", help="folder (results)")
    add("-v", "--version", default="1.3", choices=_VERSIONS, help="1.3 by default")
    add("-s", "--upscale", type=float, default=2, help="of the photo's sides (2)")
    add("--bg_upsampler", help="realesrgan, none, or a name of ours (realesrgan; on a CPU none)")
    add("--bg_tile", type=int, default=400, help="px, 0: the whole photo at once (400)")
    add("--suffix", help="of the restored faces' and photos' names")
    add("--only_center_face", action="store_true", help="restore the face in the middle alone")
    add("--aligned", action="store_true", help="the inputs are aligned faces")
    add("--ext", default="auto", help="auto (the photo's own), jpg, png")
    add("-w", "--weight", type=float, help="without effect, here as there")
    return parser


def _photos(path: Path) -> Iterator[Path]:
    """Yield the file, or a folder's files by name, hidden ones left out.

    Raises:
        InputError: there is none.
    """
    if path.is_file():
        yield path
        return
    found = [p for p in path.glob("*") if p.is_file() and not p.name.startswith(".")]
    if not found:
        raise InputError(f"{path} is no photo and no folder with photos")
    yield from sorted(found)


def _load(options: argparse.Namespace, report: Report) -> GFPGANer:
    """Set the process up and load the networks.

    Raises:
        InputError: an option can't be.
        WeightsError: weights can't be had, or are damaged.
    """
    from gfpgan_core.runtime import configure_process

    configure_process()
    from gfpgan_core.upstream.restorer import GFPGANer

    model: Path | str = options.version
    name, arch, multiplier = _UPSTREAMS.get(options.version, ("", "clean", 2))
    there = [Path(folder) / name for folder in _FOLDERS if name and (Path(folder) / name).is_file()]
    return GFPGANer(
        there[0] if there else model,
        options.upscale,
        arch,
        multiplier,
        _background(options, report),
    )


def _background(options: argparse.Namespace, report: Report) -> Any:
    """Return what enlarges the photos, with tiles of the size asked for.

    Raises:
        InputError: unknown name.
        WeightsError: its weights can't be had.
    """
    from gfpgan_core.runtime import best_device
    from gfpgan_core.upstream.background import checked

    if options.aligned:
        return None
    name, device = options.bg_upsampler, best_device()
    if name is None and device == "cpu":
        report.note("no --bg_upsampler: on a CPU it is none, as it is slow there; name one to use")
    if name is None:
        name = "none" if device == "cpu" else "realesrgan"
    upsampler = copy.copy(checked(name, device))  # the loaded one is shared
    if upsampler is not None:
        upsampler.tile_px = options.bg_tile or _UNTILED_PX
    return upsampler


def _restore(
    photo: Path, options: argparse.Namespace, enhancer: GFPGANer, writer: _Writer, report: Report
) -> None:
    """Restore one photo and write its files; an error of it is reported."""
    from gfpgan_core import images
    from gfpgan_core.upstream.arrays import flipped

    try:
        crops, faces, image = enhancer.enhance(
            flipped(images.read_rgb(photo)),
            has_aligned=options.aligned,
            only_center_face=options.only_center_face,
        )
        writer.write_faces(photo, crops, faces)
        if image is not None:
            writer.write_photo(photo, image)
    except Exception as error:  # of one photo: the others are restored
        report.failed(photo, error_text(error))
    else:
        report.tally.restored += 1
        report.line(f"{photo.name}: {len(faces)} face{'s' * (len(faces) != 1)}")


@dataclass
class _Writer:
    """Writes a photo's files under upstream's names; replaces what is there, but no photo."""

    options: argparse.Namespace
    photos: list[Path]
    report: Report
    written: dict[Path, Path] = field(default_factory=dict)
    """File -> the photo of this run that it is of."""

    def write_faces(self, photo: Path, crops: list[ImageU8], faces: list[ImageU8]) -> None:
        """Write each face before and after restoration, and both side by side."""
        import numpy as np

        folder, suffix = Path(self.options.output), self._suffix
        for number, (crop, face) in enumerate(zip(crops, faces, strict=True)):
            name = f"{photo.stem}_{number:02d}"
            self._write(photo, folder / "cropped_faces" / f"{name}.png", crop)
            self._write(photo, folder / "restored_faces" / f"{name}{suffix}.png", face)
            self._write(photo, folder / "cmp" / f"{name}.png", np.hstack([crop, face]))

    def write_photo(self, photo: Path, image: ImageU8) -> None:
        """Write the restored photo."""
        own = photo.suffix or ".png"
        ending = own if self.options.ext == "auto" else f".{self.options.ext}"
        folder = Path(self.options.output) / "restored_imgs"
        self._write(photo, folder / f"{photo.stem}{self._suffix}{ending}", image)

    @property
    def _suffix(self) -> str:
        return f"_{self.options.suffix}" if self.options.suffix is not None else ""

    def _write(self, photo: Path, path: Path, bgr: ImageU8) -> None:
        """Write one file.

        Raises:
            InputError: it is one of the photos, of an unknown ending, or can't be written.
        """
        from gfpgan_core import images

        if path.exists() and any(path.samefile(other) for other in self.photos):
            raise InputError(f"{path} is one of the photos: name another folder with -o")
        other = self.written.setdefault(path, photo)
        if other != photo:
            self.report.note(f"{path} is that of {photo.name} now, and was that of {other.name}")
        data = _encoded(bgr, path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path.parent} can't be made: {error.strerror}") from error
        images.write(path, data)


def _encoded(bgr: ImageU8, path: Path) -> bytes:
    """Return the file's content, in the format that its ending says.

    Raises:
        InputError: an ending that nothing here writes.
    """
    import cv2

    from gfpgan_core import images

    known = FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if known is not None:
        rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        return images.encode(rgb.astype("uint8", copy=False), None, known)
    try:
        done, data = cv2.imencode(path.suffix, bgr)
    except cv2.error:
        done = False
    if not done:
        raise InputError(f"{path.suffix or path.name!r} is no ending of images: use --ext png")
    return data.tobytes()
