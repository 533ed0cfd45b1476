"""Upstream's gfpgan 1.3.8 and this package in one run, alternating: time, memory, difference.

    python -m scripts.benchmark --output docs/benchmark.json

Both get the same random full-size weights, the same photos and the same face boxes, since the
official files are not part of the package; upstream's stand-ins are those that it needs to run at
all on today's libraries. Upstream always parses faces for its masks; ours does so with
`--mask parsing`, and uses the template otherwise: the rows say which. Each side of a row is a
process of its own, ours with the memory settings of the command line; they run in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from gfpgan_core import compat, geometry, images
from gfpgan_core.align import align
from gfpgan_core.backends import channels_last, load_backend
from gfpgan_core.background import BackgroundUpsampler
from gfpgan_core.config import GeneratorConfig, RestoreOptions
from gfpgan_core.detect import Face, FaceDetector, load_detector
from gfpgan_core.images import ImageU8
from gfpgan_core.memory import keep_freed_memory
from gfpgan_core.paste import Masker, RestoredFace, parsing_masker, paste, template_masks
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.weights import build, load_strictly
from gfpgan_core.winograd import accelerated

SAMPLE = Path(__file__).parent.parent / "assets" / "sample.jpg"
SIZES_MP = {1: (1156, 864), 4: (2312, 1732), 12: (4000, 3000)}  # width, height
PHOTOS = [(faces, mp) for mp in SIZES_MP for faces in (1, 4, 12)]
Action = Callable[[], Any]


def photo(faces: int, megapixels: int) -> tuple[ImageU8, list[Face]]:
    """A photo with that many copies of the sample portrait in a grid, and where the faces are."""
    width, height = SIZES_MP[megapixels]
    sample = images.read_rgb(SAMPLE)
    found = load_detector("centerface")(sample)[0]
    columns = {1: 1, 4: 2, 12: 4}[faces]
    rows = faces // columns
    side = min(width // columns, height // rows)
    portrait = np.asarray(geometry.resize(sample, (side, side)), np.uint8)
    place = geometry.scaling((512, 512), (side, side))
    canvas = np.full((height, width, 3), 110, np.uint8)
    result = []
    for i in range(faces):
        x, y = i % columns * (width // columns), i // columns * (height // rows)
        canvas[y : y + side, x : x + side] = portrait
        moved = geometry.chain(geometry.translation(x, y), place)
        box = geometry.apply(moved, found.box_xyxy.reshape(2, 2)).reshape(4)
        result.append(Face(box, geometry.apply(moved, found.landmarks), 0.99))
    return canvas, result


def upstream_generator(face_size: int = 512) -> torch.nn.Module:
    compat.restore_functional_tensor()
    from gfpgan.archs.gfpganv1_clean_arch import GFPGANv1Clean

    torch.manual_seed(0)
    return GFPGANv1Clean(  # the arguments of upstream's own GFPGANer
        out_size=face_size,
        num_style_feat=512,
        channel_multiplier=2,
        fix_decoder=False,
        input_is_latent=True,
        different_w=True,
        narrow=1,
        sft_half=True,
    ).eval()


def parsenet() -> torch.nn.Module:
    from facexlib.parsing.parsenet import ParseNet

    torch.manual_seed(0)
    return ParseNet(512, 512, parsing_ch=19).eval()


class Theirs:
    """Upstream's GFPGANer with random weights; the faces are told to its helper."""

    def __init__(self) -> None:
        network = upstream_generator()
        from facexlib.utils import face_restoration_helper as helper
        from gfpgan.utils import GFPGANer

        self.boxes = np.zeros((0, 15))
        helper.init_detection_model = lambda *_, **__: self
        helper.init_parsing_model = lambda *_, **__: parsenet()
        self.restorer = GFPGANer.__new__(GFPGANer)
        self.restorer.upscale = 2
        self.restorer.bg_upsampler = None
        self.restorer.device = torch.device("cpu")
        self.restorer.gfpgan = network
        self.restorer.face_helper = helper.FaceRestoreHelper(
            2, face_size=512, crop_ratio=(1, 1), use_parse=True, device=torch.device("cpu")
        )

    def detect_faces(self, *_: object) -> Any:
        return self.boxes

    def see(self, faces: list[Face]) -> None:
        self.boxes = np.array([[*f.box_xyxy, f.score, *f.landmarks.ravel()] for f in faces])

    def restore(self, image: ImageU8) -> Any:
        return self.restorer.enhance(image[..., ::-1], paste_back=True)[2]

    def paste(self, image: ImageU8, faces: list[Face], crops: list[ImageU8]) -> Any:
        helper = self.restorer.face_helper
        helper.use_parse = False  # alone: parsing has its own row
        helper.clean_all()
        helper.read_image(np.ascontiguousarray(image[..., ::-1]))
        self.see(faces)
        helper.get_face_landmarks_5(eye_dist_threshold=5)
        helper.align_warp_face()
        for crop in crops:
            helper.add_restored_face(crop[..., ::-1])

        def run() -> Any:
            helper.inverse_affine_matrices.clear()
            helper.get_inverse_affine(None)
            return helper.paste_faces_to_input_image()

        return run


def save_generator(path: Path) -> None:
    """The random weights in upstream's format, which both sides load."""
    torch.save({"params_ema": upstream_generator().state_dict()}, path)


def our_restorer(weights: Path, faces: list[Face], masker: Masker, backend: str) -> FaceRestorer:
    return FaceRestorer(load_file(weights), _Told(faces), masker, backend=backend)


class _Told(FaceDetector):
    """A detector that knows."""

    def __init__(self, faces: list[Face]) -> None:
        super().__init__("told", lambda *_: [faces])

    def __call__(self, image: ImageU8, min_score: float = 0.5) -> list[Face]:
        return self.raw([image], min_score)[0]


def _mask(name: str) -> Masker:
    return parsing_masker(parsenet(), "cpu") if name == "parsing" else template_masks


def side(row: str, who: str) -> Action:
    """What one side of a row does: the costly part alone, everything before it done here."""
    kind, *rest = row.split()
    ours = who != "upstream"
    if kind == "network":
        lq = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(1)) * 2 - 1
        if ours:
            run = load_backend(our_network(), who)
            return lambda: run(lq).numpy()
        network = upstream_generator()
        return lambda: _no_grad(lambda: network(lq, randomize_noise=False)[0].numpy())
    if kind == "photo":
        faces, mp, mask = int(rest[0]), int(rest[1]), rest[2]
        image, boxes = photo(faces, mp)
        if ours:
            restorer = our_restorer(boxes, _mask(mask), who)
            options = RestoreOptions(scale=2)
            return lambda: restorer.restore(image, options).image
        theirs = Theirs()
        theirs.see(boxes)
        return lambda: theirs.restore(image)
    if kind == "paste":
        image, boxes = photo(int(rest[0]), int(rest[1]))
        crops = [align(image, face, 512) for face in boxes]
        restored = [cv2.GaussianBlur(crop.pixels, (0, 0), 2) for crop in crops]
        restored_u8 = [np.asarray(face, np.uint8) for face in restored]
        if not ours:
            run_theirs: Action = Theirs().paste(image, boxes, restored_u8)
            return run_theirs
        masks = template_masks(restored_u8)
        pasted = [RestoredFace(*three) for three in zip(crops, restored_u8, masks, strict=True)]
        size_wh = image.shape[1] * 2, image.shape[0] * 2

        def run_ours() -> ImageU8:
            canvas = np.asarray(geometry.resize(image, size_wh), np.uint8)
            paste(canvas, image, pasted, blend=1.0, enlarged=False)
            return canvas

        return run_ours
    if kind == "detection":
        image = np.asarray(geometry.resize(photo(4, 4)[0], (1920, 1297)), np.uint8)
        if ours:
            detector = load_detector("centerface")
            return lambda: detector(image)
        from facexlib.detection.retinaface import RetinaFace

        torch.manual_seed(0)
        model = RetinaFace(network_name="resnet50", device=torch.device("cpu")).eval()
        return lambda: _no_grad(lambda: model.detect_faces(image[..., ::-1].copy(), 0.97))
    if kind == "background":
        image = images.read_rgb(SAMPLE)
        compat.restore_functional_tensor()
        from realesrgan.archs.srvgg_arch import SRVGGNetCompact

        torch.manual_seed(0)
        network = SRVGGNetCompact(3, 3, 64, 32, 4, act_type="prelu").eval().requires_grad_(False)
        size_wh = image.shape[1] * 4, image.shape[0] * 4
        if who == "untiled":
            plain = BackgroundUpsampler(network, 4, tile_px=10_000)
            return lambda: plain(image, size_wh)
        if ours:
            channels_last(network)
            enlarge = BackgroundUpsampler(accelerated(network), 4)
            return lambda: enlarge(image, size_wh)
        from realesrgan import RealESRGANer

        theirs_up = RealESRGANer.__new__(RealESRGANer)
        vars(theirs_up).update(
            scale=4, tile_size=400, tile_pad=10, pre_pad=10, mod_scale=None, half=False
        )
        theirs_up.model, theirs_up.device = network, torch.device("cpu")
        return lambda: theirs_up.enhance(image[..., ::-1], outscale=4)[0][..., ::-1]
    raise ValueError(row)


def _no_grad(run: Action) -> Any:
    with torch.no_grad():
        return run()


class _Side:
    """One side of a row in a process of its own, as its user has it: it runs when told to."""

    def __init__(self, row: str, who: str, folder: str) -> None:
        self.result = Path(folder) / f"{who}.npy"
        command = [sys.executable, "-m", "scripts.benchmark", "--side", row, who, str(self.result)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()  # its first, warm run is over

    def seconds(self) -> float:
        assert self.process.stdin
        print("go", file=self.process.stdin, flush=True)
        return self._answer()

    def peak_mib(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        return round(self._answer())

    def _answer(self) -> float:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(_ANSWER):
                return float(line.removeprefix(_ANSWER))
        raise RuntimeError(f"the other process ended with status {self.process.wait()}")


_ANSWER = "benchmark: "


def _serve(row: str, who: str, result: str) -> None:
    """The other end of a `_Side`."""
    if who != "upstream":
        keep_freed_memory()  # as the command line and the server do
    action = side(row, who)
    first = action()
    np.save(result, np.asarray(first) if row.split()[0] != "detection" else np.zeros(0))
    print(f"{_ANSWER}0", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        action()
        print(f"{_ANSWER}{time.perf_counter() - started}", flush=True)
    print(f"{_ANSWER}{_own_peak_mib()}", flush=True)


def _own_peak_mib() -> int:
    """Not getrusage's: that one starts at what the process that started this one had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


# What our pictures are compared with, where they are meant to be equal. Upstream's tiles of the
# background have seams: there it is the same network over the whole image.
_REFERENCE = {"network": "upstream", "background": "untiled"}


def measure(row: str, backend: str, repeats: int) -> dict[str, Any]:
    """The times of both sides, taken in turns after a warm call each, and their peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        sides = {"upstream": _Side(row, "upstream", folder), "ours": _Side(row, backend, folder)}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(repeats):
            for name, one in sides.items():
                seconds[name].append(one.seconds())
        peaks = {name: one.peak_mib() for name, one in sides.items()}
        difference = None
        reference = _REFERENCE.get(row.split()[0])
        if reference:
            if reference != "upstream":
                _Side(row, reference, folder).peak_mib()
            pictures = [np.load(Path(folder) / f"{who}.npy") for who in (reference, backend)]
            difference = float(np.abs(pictures[0].astype(float) - pictures[1]).max())
    ms = {name: 1e3 * statistics.median(values) for name, values in seconds.items()}
    return {
        "row": row,
        "backend": backend,
        "upstream_ms": round(ms["upstream"], 1),
        "ours_ms": round(ms["ours"], 1),
        "ratio": round(ms["upstream"] / ms["ours"], 2),
        "upstream_peak_mib": peaks["upstream"],
        "ours_peak_mib": peaks["ours"],
        "largest_difference": difference,
    }


def rows() -> list[tuple[str, str, int]]:
    """Each row's name, our back end, and how often it is measured."""
    backends = ("torch", "winograd", "openvino", "openvino-bf16", "compile")
    return [
        *(("network", backend, 5) for backend in backends),
        ("detection", "auto", 3),
        ("background", "auto", 3),
        ("paste 12 12", "auto", 1),
        *((f"photo {n} {mp} template", "auto", 1) for n, mp in PHOTOS),
        ("photo 4 4 parsing", "auto", 1),
    ]


def _chart(measured: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [f"{m['row']}\n{m['backend']}" for m in measured]
    figure, axes = pyplot.subplots(figsize=(9, 0.42 * len(names) + 1.2), layout="constrained")
    bars = axes.barh(names, [m["ratio"] for m in measured], color="#3b6ea5")
    axes.bar_label(bars, [f" {m['ratio']:g}x" for m in measured], fontsize=8)
    axes.axvline(1, color="#999999", linewidth=1)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("times as fast as upstream's gfpgan 1.3.8, same machine, same run")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmark.json"))
    parser.add_argument("--chart", type=Path, help="PNG of the ratios")
    parser.add_argument("--only", default="", help="rows whose name starts so")
    parser.add_argument("--side", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        _serve(*arguments.side)
        return 0
    known = json.loads(arguments.output.read_text()) if arguments.output.is_file() else []
    done = {(m["row"], m["backend"]): m for m in known}
    for row, backend, repeats in rows():
        if not row.startswith(arguments.only):
            continue
        done[row, backend] = measured = measure(row, backend, repeats)
        print(*(f"{value}" for value in measured.values()), sep="\t", flush=True)
        arguments.output.write_text(json.dumps(list(done.values()), indent=1) + "\n")
    if arguments.chart:
        _chart(list(done.values()), arguments.chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
