"""The two sides that `scripts.benchmark` compares: upstream's code and ours, part by part.

Both load the same random full-size weights from the same files, see the same photos, and get
the same face boxes, since the official files are not part of the package. Upstream's stand-ins are
those that it needs to run at all on today's libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from gfpgan_core import compat, geometry, images
from gfpgan_core.align import align
from gfpgan_core.backends import load_backend
from gfpgan_core.background import load_background_file
from gfpgan_core.config import RestoreOptions
from gfpgan_core.detect import Detection, FaceDetector, load_detector
from gfpgan_core.detectors import Face
from gfpgan_core.images import ImageU8
from gfpgan_core.masks import PARSERS, Masker, load_parser, parsing_masker, template_masks
from gfpgan_core.paste import RestoredFace, paste
from gfpgan_core.pipeline import FaceRestorer
from gfpgan_core.upstream import GFPGANer
from gfpgan_core.weights.load import load_file

SAMPLE = Path(__file__).parent.parent / "assets" / "sample.jpg"
SIZES_MP = {1: (1156, 864), 4: (2312, 1732), 12: (4000, 3000)}  # width, height


@dataclass
class Action:
    """One side of a row: what comes before the work that is timed is done."""

    run: Callable[[], Any]
    """The work; gives the picture where pictures are compared."""
    parts: dict[str, float] = field(default_factory=dict)
    """The seconds of each part of the last run, where the side tells them."""


def photo(faces: int, megapixels: int) -> tuple[ImageU8, list[Face]]:
    """Return a photo with copies of the sample portrait in a grid, and where the faces are."""
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


def upstream_generator(face_size: int = 512) -> nn.Module:
    """Return upstream's clean generator with random weights."""
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


def upstream_background() -> nn.Module:
    """Return upstream's background network with random weights."""
    compat.restore_functional_tensor()
    from realesrgan.archs.srvgg_arch import SRVGGNetCompact

    torch.manual_seed(0)
    return SRVGGNetCompact(3, 3, 64, 32, 4, act_type="prelu").eval().requires_grad_(False)


GENERATOR, BACKGROUND = "generator.pth", "background.pth"


def write_weights(folder: Path) -> None:
    """Write the random weights of every network, as upstream's files hold them."""
    torch.save({"params_ema": upstream_generator().state_dict()}, folder / GENERATOR)
    torch.save({"params": upstream_background().state_dict()}, folder / BACKGROUND)
    for name, parser in PARSERS.items():
        torch.manual_seed(0)
        torch.save(parser.build().state_dict(), folder / f"{name}.pth")


def _loaded(network: nn.Module, path: Path, key: str | None) -> nn.Module:
    """Load a file as upstream does; `write_weights` has just written it."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state[key] if key else state, strict=True)
    return network.eval()


class Theirs:
    """Upstream's GFPGANer with random weights; the faces are told to its helper."""

    def __init__(self, folder: Path) -> None:
        network = _loaded(upstream_generator(), folder / GENERATOR, "params_ema")
        from facexlib.utils import face_restoration_helper as helper
        from gfpgan.utils import GFPGANer

        self.boxes = np.zeros((0, 15))
        helper.init_detection_model = lambda *_, **__: self
        helper.init_parsing_model = lambda *_, **__: _their_parser(folder)
        self.restorer = GFPGANer.__new__(GFPGANer)
        self.restorer.upscale = 2
        self.restorer.bg_upsampler = None
        self.restorer.device = torch.device("cpu")
        self.restorer.gfpgan = network
        self.restorer.face_helper = helper.FaceRestoreHelper(
            2, face_size=512, crop_ratio=(1, 1), use_parse=True, device=torch.device("cpu")
        )

    def detect_faces(self, *_: object) -> Any:
        """Return the faces that were told, as facexlib's detector would."""
        return self.boxes

    def see(self, faces: list[Face]) -> None:
        """Set the faces that are found from now on."""
        self.boxes = np.array([[*f.box_xyxy, f.score, *f.landmarks.ravel()] for f in faces])

    def restore(self, image: ImageU8) -> Any:
        """Return the restored photo."""
        return self.restorer.enhance(image[..., ::-1], paste_back=True)[2]

    def paste(self, image: ImageU8, faces: list[Face], crops: list[ImageU8]) -> Callable[[], Any]:
        """Return a function that pastes the restored crops back."""
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


class _Told(FaceDetector):
    """A detector that finds the faces it was told."""

    def __init__(self, faces: list[Face]) -> None:
        super().__init__("told", lambda *_: [faces])

    def find(self, image: ImageU8, min_score: float = 0.5) -> Detection:
        return Detection(self.raw([image], min_score)[0])


def _their_parser(folder: Path) -> nn.Module:
    return _loaded(PARSERS["parsing"].build(), folder / "parsing.pth", None)


def _our_masker(name: str, folder: Path) -> Masker:
    if name == "template":
        return template_masks
    parser = PARSERS[name]
    return parsing_masker(parser, load_parser(parser, folder / f"{name}.pth", "cpu"), "cpu")


def side(row: str, who: str, folder: Path) -> Action:
    """Return a side: `row` is a kind and its arguments, `who` upstream or the back end of ours."""
    kind, *arguments = row.split()
    makers: dict[str, Callable[..., Action]] = {
        "network": _network,
        "detection": _detection,
        "mask": _mask,
        "paste": _paste,
        "background": _background,
        "photo": _photo,
        "enhance": _enhance,
    }
    return makers[kind](who, folder, *arguments)


def _network(who: str, folder: Path) -> Action:
    lq = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if who == "upstream":
        network = _loaded(upstream_generator(), folder / GENERATOR, "params_ema")
        return Action(lambda: _no_grad(lambda: network(lq, randomize_noise=False)[0].numpy()))
    run = load_backend(load_file(folder / GENERATOR), who)
    return Action(lambda: run(lq).numpy())


def _photo(who: str, folder: Path, faces: str, megapixels: str, mask: str) -> Action:
    image, boxes = photo(int(faces), int(megapixels))
    if who == "upstream":
        theirs = Theirs(folder)
        theirs.see(boxes)
        return Action(lambda: theirs.restore(image))
    network = load_file(folder / GENERATOR)
    restorer = FaceRestorer(network, _Told(boxes), _our_masker(mask, folder), backend=who)
    parts: dict[str, float] = {}

    def run() -> ImageU8:
        restoration = restorer.restore(image, RestoreOptions(scale=2))
        parts.update(restoration.seconds)
        return restoration.image

    return Action(run, parts)


def _enhance(who: str, folder: Path, faces: str, megapixels: str) -> Action:
    """The class that programs written for upstream use, in place of upstream's own."""
    if who == "upstream":
        return _photo(who, folder, faces, megapixels, "parsing")
    image, boxes = photo(int(faces), int(megapixels))
    ours = GFPGANer(
        folder / GENERATOR,
        device="cpu",
        detector=_Told(boxes),
        parse_model_path=folder / "parsing.pth",
        backend=who,
    )
    bgr = np.ascontiguousarray(image[..., ::-1])
    return Action(lambda: ours.enhance(bgr)[2])


def _paste(who: str, folder: Path, faces: str, megapixels: str) -> Action:
    image, boxes = photo(int(faces), int(megapixels))
    crops = [align(image, face, 512) for face in boxes]
    blurred = (cv2.GaussianBlur(crop.pixels, (0, 0), 2) for crop in crops)
    restored = [np.asarray(face, np.uint8) for face in blurred]
    if who == "upstream":
        return Action(Theirs(folder).paste(image, boxes, restored))
    masks = template_masks(restored)
    pasted = [RestoredFace(*three) for three in zip(crops, restored, masks, strict=True)]
    size_wh = image.shape[1] * 2, image.shape[0] * 2

    def run() -> ImageU8:
        canvas = np.asarray(geometry.resize(image, size_wh), np.uint8)
        paste(canvas, image, pasted, blend=1.0, enlarged=False)
        return canvas

    return Action(run)


def _detection(who: str, folder: Path) -> Action:
    del folder
    image = np.asarray(geometry.resize(photo(4, 4)[0], (1920, 1297)), np.uint8)
    if who != "upstream":
        detector = load_detector("centerface")
        return Action(lambda: detector(image))
    from facexlib.detection.retinaface import RetinaFace

    torch.manual_seed(0)
    model = RetinaFace(network_name="resnet50", device=torch.device("cpu")).eval()
    return Action(lambda: _no_grad(lambda: model.detect_faces(image[..., ::-1].copy(), 0.97)))


def _mask(who: str, folder: Path, name: str) -> Action:
    face = images.read_rgb(SAMPLE)
    if who != "upstream":
        masker = _our_masker(name, folder)
        return Action(lambda: masker([face]))
    network = _their_parser(folder)

    def run() -> None:  # theirs, in `paste_faces_to_input_image`, of which it is a part
        resized = cv2.resize(face, (512, 512), interpolation=cv2.INTER_LINEAR)
        classes = network(images.to_pm1(np.asarray(resized, np.uint8))[None])[0].argmax(dim=1)
        mask = np.where(classes.squeeze().numpy() > 0, 255.0, 0.0)
        for _ in range(2):
            mask = cv2.GaussianBlur(mask, (101, 101), 11)

    return Action(lambda: _no_grad(run))


def _background(who: str, folder: Path) -> Action:
    image = images.read_rgb(SAMPLE)
    size_wh = image.shape[1] * 4, image.shape[0] * 4
    if who != "upstream":
        enlarge = load_background_file(folder / BACKGROUND, 4)
        if who == "untiled":
            enlarge.run, enlarge.tile_px = upstream_background(), 10_000
        return Action(lambda: enlarge(image, size_wh))
    network = _loaded(upstream_background(), folder / BACKGROUND, "params")
    from realesrgan import RealESRGANer

    theirs = RealESRGANer.__new__(RealESRGANer)
    vars(theirs).update(scale=4, tile_size=400, tile_pad=10, pre_pad=10, mod_scale=None, half=False)
    theirs.model, theirs.device = network, torch.device("cpu")
    return Action(lambda: theirs.enhance(image[..., ::-1], outscale=4)[0][..., ::-1])


def _no_grad(run: Callable[[], Any]) -> Any:
    with torch.no_grad():
        return run()
