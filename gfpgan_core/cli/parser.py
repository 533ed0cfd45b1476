"""The options of the command line."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn, get_args

from gfpgan_core.cli.export import KINDS
from gfpgan_core.cli.fetch import FETCHABLE
from gfpgan_core.cli.report import printable
from gfpgan_core.config import MAX_SCALE, MIN_SCALE, Backend, Background, DetectorName, MaskKind
from gfpgan_core.formats import WRITABLE
from gfpgan_core.weights.releases import RELEASES


class _Parser(argparse.ArgumentParser):
    """An argument parser that shows what it was given without what a terminal would act on."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _fetchable(name: str) -> str:
    if name not in ("all", *FETCHABLE):
        raise argparse.ArgumentTypeError(
            f"unknown name {name!r}; allowed: all, {', '.join(FETCHABLE)}"
        )
    return name


def _number_or_auto(text: str) -> float | str:
    try:
        return text if text == "auto" else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from error


def _box(text: str) -> list[float]:
    try:
        left, top, right, bottom = map(float, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no LEFT,TOP,RIGHT,BOTTOM") from error
    return [left, top, right, bottom]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; its result names the `command`."""
    name = Path(sys.argv[0]).name
    prog = "gfpgan" if name.startswith("gfpgan") else "python -m gfpgan_core"
    parser = _Parser(prog=prog, description="Restores faces.")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_restore(commands.add_parser("restore", help="restore the faces in photos"))
    fetch = commands.add_parser("fetch", help="download weight files ahead of time")
    fetch.add_argument(
        "names",
        nargs="*",
        type=_fetchable,
        metavar="NAME",
        help=f"all, or any of: {', '.join(FETCHABLE)} (default: v1.4 and its companions)",
    )
    _add_serve_page(commands.add_parser("serve-page", help="a page in the browser, for photos"))
    _add_export(commands.add_parser("export", help="write weights as other tools read them"))
    _add_video(commands.add_parser("video", help="restore the faces in a video"))
    _add_batch(commands.add_parser("batch", help="restore millions of photos, on many machines"))
    return parser


def _add_serve_page(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="default: 127.0.0.1, which is this machine alone")
    add("--port", type=int, default=7860, help="default: 7860; 0: any that is free")
    version = "what the page begins with; default: compact, which needs no download"
    add("--version", choices=tuple(RELEASES), default="compact", help=version)
    add("--device", help="cpu, cuda, cuda:1 ...; default: cuda where there is one")


def _add_export(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE", help="a weight file, a folder of --to hub, or a version's name")
    add("--to", choices=KINDS, required=True, help="the kind of file")
    add("--output", metavar="PATH", help="file or folder; default: by its name, in this folder")
    add("--name", default="", help="what the export is called; default: the file's name")
    add("--facefusion", action="store_true", help="by facefusion's names, with its checksum")
    add("--license", default="", metavar="ID", help="for the card of --to hub: apache-2.0 ...")
    add("--overwrite", action="store_true", help="replace files of these names")


def _add_batch(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="batch_command", required=True)
    manifest = commands.add_parser("manifest", help="list photos and deal them out to shards")
    add = manifest.add_argument
    add(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder, photo, address such as s3://bucket/folder, or list: .txt, .parquet",
    )
    add("--output", default="manifest.parquet", metavar="FILE", help="default: manifest.parquet")
    add("--shards", type=int, default=100, help="default: 100; 1,000 to 10,000 photos each is good")
    add("--overwrite", action="store_true", help="replace the file")
    run = commands.add_parser("run", help="restore what isn't done of a manifest's photos")
    add = run.add_argument
    add("manifest", metavar="MANIFEST", help="what `batch manifest` wrote")
    add("--output", default="output", metavar="DIR", help="default: output")
    add("--shard", default="0/1", metavar="I/N", help="every N-th shard from I on; default: 0/1")
    add("--retry-failed", action="store_true", help="do again what failed or was poison")
    add("--ray", action="store_true", help="on Ray, by the package's extra of that name")
    add("--address", default="", help="of a Ray cluster; default: one of this machine's own")
    add("--workers", type=int, default=0, help="processes; default: one for each core or GPU")
    add("--threads", type=int, default=1, help="of each worker; default: 1")
    add("--gpus-per-worker", type=float, default=0.0, help="of Ray; default: 0")
    _add_how(run)
    status = commands.add_parser("status", help="say how far a batch is")
    add = status.add_argument
    add("output", nargs="?", default="output", metavar="DIR", help="default: output")
    add("--watch", action="store_true", help="again every 5 s until all is done")
    add("--prometheus", action="store_true", help="as Prometheus reads it")
    add("--plot", metavar="FILE", help="draw photos done over time (matplotlib)")


def _add_restore(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "inputs", nargs="+", metavar="INPUT", help="photos, or folders of photos; -: standard input"
    )
    add(
        "--output",
        default="output",
        metavar="DIR",
        help="folder; for one photo a file, as result.png, or - (standard output); default: output",
    )
    add("--overwrite", action="store_true", help="replace files of the results' names, no photos")
    add("--resume", action="store_true", help="leave out what an earlier run has done")
    _add_how(parser)
    add("--save-faces", action="store_true", help="write each face, before and after, as well")
    add("--list", action="store_true", help="say which faces there are, and restore nothing")
    add("--report", action="store_true", help="write report.html, to look at before and after")
    add("--json", action="store_true", help="report as lines of JSON")


def _add_video(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="INPUT", help="a video")
    add("output", metavar="OUTPUT", help="the result: a name in .mp4, .mov or .mkv")
    add("--overwrite", action="store_true", help="replace the output, and work on it that was kept")
    add("--resume", action="store_true", help="go on where an earlier run ended")
    add("--crf", type=float, default=18.0, help="quality of H.264, 0 (lossless) to 51; default: 18")
    _add_networks(parser)
    _add_picture(parser, "1", "0: faces unchanged, 1 (default): restored")
    _add_faces(parser, "all (default), largest, or center")
    add("--keep-gps", action="store_true", help="leave in the result where a video was taken")


def _add_how(parser: argparse.ArgumentParser) -> None:
    """Add what says how a photo is restored, and by what."""
    add = parser.add_argument
    _add_networks(parser)
    blend = (
        "0: faces unchanged, 1 (default): restored; auto: as much as each face's damage asks for"
    )
    _add_picture(parser, "auto", blend)
    add("--aligned", action="store_true", help="the inputs are aligned, square faces")
    _add_faces(parser, "all (default), largest, center, or numbers from left to right such as 1,3")
    add(
        "--box",
        dest="boxes",
        type=_box,
        action="append",
        default=[],
        metavar="L,T,R,B",
        help="look for a face there and nowhere else, in pixels; several are allowed",
    )
    add("--page", type=int, default=1, help="of an animation or a TIFF of several, default: 1")
    add("--deinterlace", action="store_true", help="for a still from interlaced video")
    add("--format", choices=("auto", *WRITABLE), default="auto", help="default: auto")
    add("--keep-gps", action="store_true", help="leave in the result where a photo was taken")


def _add_networks(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--version", choices=tuple(RELEASES), default="v1.4", help="default: v1.4")
    add("--weights", type=Path, metavar="FILE", help="weights of your own: a file, or a folder")
    add(
        "--detector",
        choices=get_args(DetectorName),
        default="auto",
        help="default: auto",
    )
    add("--mask", choices=get_args(MaskKind), default="auto", help="default: auto")
    add("--device", help="cpu, cuda, cuda:1 ...; default: cuda where there is one")
    add(
        "--backend",
        choices=get_args(Backend),
        default="auto",
        help="what runs the network, default: auto, the fastest of equal results",
    )


def _add_picture(parser: argparse.ArgumentParser, scale: str, blend: str) -> None:
    """Add the scale, with this default, what enlarges, and the blend, with this help."""
    add = parser.add_argument
    add(
        "--scale",
        type=_number_or_auto,
        default=_number_or_auto(scale),
        help=f"{MIN_SCALE:g} to {MAX_SCALE:g}; auto: the largest up to 2 that fits; default:"
        f" {scale}",
    )
    add("--background", choices=get_args(Background), default="none", help="default: none")
    upscale = "enlarge restored faces by the background's network too, at scales above 2"
    add("--upscale-faces", action="store_true", help=upscale)
    add("--blend", type=_number_or_auto, default=1.0, help=blend)


def _add_faces(parser: argparse.ArgumentParser, choices: str) -> None:
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--faces", default="all", metavar="WHICH", help=choices)
    for faces in ("center", "largest"):
        which.add_argument(
            f"--only-{faces}-face",
            dest="faces",
            action="store_const",
            const=faces,
            help=f"as --faces {faces}",
        )
    add("--min-eye-distance", type=float, default=5.0, metavar="PX", help="default: 5")
    add("--max-eye-distance", type=float, metavar="PX", help="default: any")
    add("--min-score", type=float, default=0.5, help="of a detection, 0 to 1, default: 0.5")
