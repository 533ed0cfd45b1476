from pathlib import Path
import numpy as np, torch
from PIL import Image
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
def read_rgb(path):
    return np.asarray(Image.open(path).convert("RGB"))
def to_pm1(image):
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float().div_(127.5).sub_(1)
def from_pm1(image):
    return image.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).cpu().numpy()
