"""Write assets/before_after.png: the sample portrait before and after the shipped command."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gfpgan_core import geometry, images

_ASSETS = Path(__file__).parent.parent / "assets"
_SAMPLE = _ASSETS / "sample_degraded.jpg"
_FACE = np.s_[60:400, 280:620]  # of the result at scale 2
_SCALE = 2


def main() -> None:
    argparse.ArgumentParser(
        prog="python -m scripts.make_readme_pictures", description=__doc__
    ).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "gfpgan_core", "restore", str(_SAMPLE)]
        command += ["--version", "compact", "--scale", str(_SCALE), "--format", "png"]
        subprocess.run([*command, "--output", folder], check=True)
        after = images.read_rgb(Path(folder) / "sample_degraded.png")
    before = geometry.resize(images.read_rgb(_SAMPLE), (after.shape[1], after.shape[0]))
    original = geometry.resize(
        images.read_rgb(_ASSETS / "sample.jpg"), (after.shape[1], after.shape[0])
    )
    strip = np.hstack([picture[_FACE] for picture in (before, after, original)])
    labeled = Image.new("RGB", (strip.shape[1], strip.shape[0] + 24), "white")
    labeled.paste(Image.fromarray(strip), (0, 24))
    draw = ImageDraw.Draw(labeled)
    width = strip.shape[1] // 3
    for i, label in enumerate(("input, enlarged", "restored (compact)", "original")):
        draw.text((i * width + 8, 6), label, fill="black")
    images.write(_ASSETS / "before_after.png", images.encode(np.asarray(labeled), None, "png"))


if __name__ == "__main__":
    main()
