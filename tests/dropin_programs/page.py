"""As small web pages do it: the object made once, pictures of a browser in and out."""

import functools

import cv2
import numpy as np
from gfpgan.utils import GFPGANer
from PIL import Image


@functools.lru_cache(maxsize=1)
def load_model():
    return GFPGANer(
        model_path="models/GFPGANv1.4.pth",
        upscale=2,
        arch="clean",
        channel_multiplier=2,
        bg_upsampler=None,
    )


def restore(uploaded):
    image = cv2.cvtColor(np.array(Image.open(uploaded)), cv2.COLOR_RGB2BGR)
    cropped, restored, output = load_model().enhance(image, weight=0.3)
    gallery = [cv2.cvtColor(face, cv2.COLOR_BGR2RGB) for face in (*cropped, *restored)]
    return Image.fromarray(cv2.cvtColor(output, cv2.COLOR_BGR2RGB)), gallery
