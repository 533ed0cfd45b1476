"""Tell what is black-and-white in a photo, and keep it without color."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from gfpgan_core.images.photo import ImageU8

# Channels differ by more: of gray saved as a color JPEG, rounding makes up to 2.
_COLORED = 2
# Color is looked for in means of so many pixels: a scanner's noise is gone in them, a date's thin
# digits are not, and they reach over what lies around color: anti-aliasing, half-resolution chroma.
_MEAN_PX = 9
# Black and white have no color in a color photo either, and pages hold much of both.
_BLACK, _WHITE = 12, 243
# Of the pixels that are neither: a date stays below, faint sepia is far above.
_COLORED_SHARE = 0.05

# Of an aligned face, in sides of the crop: brows to chin. What is around it may be another picture.
_FACE_ROWS, _FACE_COLUMNS = (0.33, 0.85), (0.28, 0.72)
# A face with fewer pixels that are neither black nor white is decided with what is around it.
_DECISIVE_SHARE = 0.1

_BAND_PIXELS = 2**22


def gray(image: ImageU8) -> ImageU8:
    """Return the image's luma (BT.601) in all three channels."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.cvtColor(luma, cv2.COLOR_GRAY2RGB), np.uint8)


def is_gray(image: ImageU8) -> bool:
    """Return whether (H, W, 3) pixels are black-and-white, apart from small colored spots.

    Decided on the pixels that are neither black nor white: a small color portrait on a white page
    is not gray, whatever the page's size.
    """
    colored, counted = _counts(image)
    return colored <= _COLORED_SHARE * counted


def keep_gray(restored: ImageU8, original: ImageU8) -> ImageU8:
    """Return `restored` without color where `original` has none.

    Each place is looked at on its own: a gray photo on a colored page stays gray, and a date, a
    stamp or a color photo on a gray page keep their color. `restored` may be larger or smaller than
    `original`.
    """
    colored = _is_colored(original).astype(np.uint8) * np.uint8(255)
    if colored.all():
        return restored
    height, width = restored.shape[:2]
    resized = cv2.resize(colored, (width, height), interpolation=cv2.INTER_LINEAR)
    share = np.asarray(resized, np.uint8)
    result = np.empty_like(restored)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        result[band] = _mixed(gray(restored[band]), restored[band], share[band])
    return result


def keep_gray_face(restored: ImageU8, crop: ImageU8, upscale: float = 1.0) -> ImageU8:
    """Return an aligned face without color where `crop`, before it was restored, shows none.

    Whether the face has color is decided from brows to chin, because the page around a pasted
    portrait says nothing of it. A gray face gets none; what has color around it keeps it. A color
    face is returned as it is: the network may give color to what is pale or blown out in it. What
    is gray around that, such as the page, stays gray.

    Args:
        restored: (S, S, 3) RGB.
        crop: (S, S, 3) RGB.
        upscale: by how much the crop enlarges the photo: the noise's grain is as much larger.
    """
    height, width = crop.shape[:2]
    mean_px = max(_MEAN_PX, min(round(_MEAN_PX * upscale), height // 4)) | 1
    (top, bottom), (left, right) = _FACE_ROWS, _FACE_COLUMNS
    face = crop[round(top * height) : round(bottom * height)]
    face = face[:, round(left * width) : round(right * width)]
    colored, counted = _counts(face, mean_px)
    if counted < _DECISIVE_SHARE * face.shape[0] * face.shape[1]:
        colored, counted = _counts(crop, mean_px)
    has_color = _is_colored(crop, mean_px)
    if colored <= _COLORED_SHARE * counted:
        share = np.asarray(has_color * 255, np.uint8)
    else:
        # The wide means reach over the page, the narrow ones take its noise for color.
        near = cv2.blur(
            np.asarray((has_color & _is_colored(crop)) * 255, np.uint8), (_MEAN_PX,) * 2
        )
        share = np.asarray(cv2.max(near, _face_oval(height)), np.uint8)
    result, place = restored.copy(), share < 255  # of most faces little
    result[place] = _mixed(gray(restored)[place], restored[place], share[place])
    return result


@functools.lru_cache(maxsize=4)
def _face_oval(side_px: int) -> ImageU8:
    """Return 255 from the brows to the chin of an aligned face, fading to 0 around it."""
    oval = np.zeros((side_px, side_px), np.uint8)
    center, axes = (side_px * 0.5, side_px * 0.6), (side_px * 0.56, side_px * 0.6)
    cv2.ellipse(oval, (center, axes, 0), 255, -1)
    return np.asarray(cv2.GaussianBlur(oval, (0, 0), side_px / 64), np.uint8)


def _mixed(grays: ImageU8, colors: ImageU8, share: ImageU8) -> ImageU8:
    """Return colors (..., 3) where `share` (...) is 255, grays where it is 0, both between."""
    part = (share / np.float32(255))[..., None]
    mixed = grays + part * (colors.astype(np.float32) - grays)
    return np.asarray(np.rint(mixed), np.uint8)


def _counts(image: ImageU8, mean_px: int = _MEAN_PX) -> tuple[int, int]:
    """Return how many pixels are colored, of how many that are neither black nor white."""
    lowest, highest = _extremes(image)
    inside = (highest > _BLACK) & (lowest < _WHITE)
    return int(np.count_nonzero(inside & _is_colored(image, mean_px))), int(
        np.count_nonzero(inside)
    )


def _is_colored(image: ImageU8, mean_px: int = _MEAN_PX) -> NDArray[np.bool_]:
    """Return for each pixel of (H, W, 3) whether there is color in it or close to it."""
    height, width = image.shape[:2]
    result = np.empty((height, width), np.bool_)
    rows, reach = max(1, _BAND_PIXELS // width), mean_px // 2
    for top in range(0, height, rows):
        first = max(0, top - reach)
        means = cv2.blur(image[first : top + rows + reach], (mean_px, mean_px))
        lowest, highest = _extremes(np.asarray(means[top - first :][:rows], np.uint8))
        result[top : top + rows] = cv2.subtract(highest, lowest) > _COLORED
    return result


def _extremes(image: ImageU8) -> tuple[ImageU8, ImageU8]:
    """Return each pixel's lowest and highest channel."""
    red, green, blue = cv2.split(image)
    lowest = cv2.min(cv2.min(red, green), blue)
    highest = cv2.max(cv2.max(red, green), blue)
    return np.asarray(lowest, np.uint8), np.asarray(highest, np.uint8)
