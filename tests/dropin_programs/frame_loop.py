"""As face swappers do it: one enhancer for all threads, results over the frames."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import gfpgan

FACE_ENHANCER = None
THREAD_LOCK = threading.Lock()
THREAD_SEMAPHORE = threading.Semaphore(2)


def get_face_enhancer():
    global FACE_ENHANCER
    with THREAD_LOCK:
        if FACE_ENHANCER is None:
            model_path = os.path.join("models", "GFPGANv1.4.pth")
            FACE_ENHANCER = gfpgan.GFPGANer(model_path=model_path, upscale=1, device="cpu")
    return FACE_ENHANCER


def enhance_frame(frame):
    with THREAD_SEMAPHORE:
        _, _, enhanced = get_face_enhancer().enhance(frame, paste_back=True)
    return enhanced


def process_frame(path):
    cv2.imwrite(path, enhance_frame(cv2.imread(path)))


def process_frames(paths):
    with ThreadPoolExecutor(max_workers=2) as executor:
        list(executor.map(process_frame, paths))
