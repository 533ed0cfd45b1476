"""As the large interface for image generation did it: on the device while it works, else away."""

import gfpgan
import numpy as np

DEVICE, IDLE_DEVICE = "cpu", "cpu"
loaded = None


def model():
    global loaded
    if loaded is None:
        constructor = gfpgan.GFPGANer
        loaded = constructor(
            model_path="models/GFPGANv1.4.pth",
            upscale=1,
            arch="clean",
            channel_multiplier=2,
            bg_upsampler=None,
            device=DEVICE,
        )
    return loaded


def send_model_to(model, device):
    model.gfpgan.to(device)
    model.face_helper.face_det.to(device)
    model.face_helper.face_parse.to(device)


def fix_faces(np_image):
    restorer = model()
    send_model_to(restorer, DEVICE)
    np_image_bgr = np_image[:, :, ::-1]
    _, _, output_bgr = restorer.enhance(
        np_image_bgr, has_aligned=False, only_center_face=False, paste_back=True
    )
    np_image = np.array(output_bgr[:, :, ::-1])
    restorer.face_helper.clean_all()
    send_model_to(restorer, IDLE_DEVICE)
    return np_image
