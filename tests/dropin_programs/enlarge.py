"""As Real-ESRGAN's own script does it with --face_enhance: everything enlarged, faces restored."""

import argparse
import glob
import os

import cv2
from gfpgan import GFPGANer
from realesrgan import RealESRGANer
from realesrgan.archs.srvgg_arch import SRVGGNetCompact


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("-i", "--input", default="inputs")
    parser.add_argument("-o", "--output", default="results")
    parser.add_argument("-s", "--outscale", type=float, default=4)
    parser.add_argument("--face_enhance", action="store_true")
    args = parser.parse_args(arguments)

    model = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=2)
    upsampler = RealESRGANer(scale=2, model_path="models/enlarger.pth", model=model, device="cpu")
    if args.face_enhance:
        face_enhancer = GFPGANer(
            model_path="models/GFPGANv1.4.pth",
            upscale=args.outscale,
            arch="clean",
            channel_multiplier=2,
            bg_upsampler=upsampler,
        )
    os.makedirs(args.output, exist_ok=True)
    for path in sorted(glob.glob(os.path.join(args.input, "*"))):
        img = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        if args.face_enhance:
            _, _, output = face_enhancer.enhance(
                img, has_aligned=False, only_center_face=False, paste_back=True
            )
        else:
            output, _ = upsampler.enhance(img, outscale=args.outscale)
        cv2.imwrite(os.path.join(args.output, os.path.basename(path)), output)
