"""Decode the photos that the pipeline is given: files, arrays, or decoded already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from gfpgan_core.config import RestoreOptions
from gfpgan_core.errors import InputError
from gfpgan_core.images.interlace import deinterlace
from gfpgan_core.images.opening import check_input_size
from gfpgan_core.images.photo import ImageU8, Photo
from gfpgan_core.images.reading import read
from gfpgan_core.images.transparency import spread_colors

# Photos that are decoded while the network runs.
_READ_AHEAD = 2

AnyPhoto = Photo | ImageU8 | Path | str


def read_ahead(photos: Iterable[AnyPhoto], page: int) -> Iterator[Callable[[], Photo]]:
    """Yield for each photo a function that returns it decoded, or raises its error.

    Another thread decodes the next ones meanwhile.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as reader:
        ahead: deque[Callable[[], Photo]] = deque()
        for photo in photos:
            ahead.append(reader.submit(as_photo, photo, page).result)
            if len(ahead) > _READ_AHEAD:
                yield ahead.popleft()
        yield from ahead


def as_photo(photo: AnyPhoto, page: int) -> Photo:
    """Return the photo, decoded if it isn't; `page` is read of a file, from 1.

    Raises:
        InputError: it can't be read, or is an array of another shape or type.
    """
    if isinstance(photo, (str, Path)):
        return read(Path(photo), page=page)
    if isinstance(photo, Photo):
        return photo
    if not (isinstance(photo, np.ndarray) and photo.dtype == np.uint8 and photo.ndim == 3) or (
        photo.shape[2] != 3
    ):
        raise InputError("an image array must be RGB: uint8 of shape (height, width, 3)")
    check_input_size(photo.shape[1], photo.shape[0])
    return Photo(photo)


def prepared(photo: Photo, options: RestoreOptions) -> Photo:
    """Return the photo ready to be resampled: deinterlaced if asked for, and with the colors of
    transparent pixels replaced by their neighbors'."""
    rgb = photo.rgb
    if options.deinterlace:
        rgb = deinterlace(rgb)
    if photo.alpha is not None:
        rgb = spread_colors(rgb, photo.alpha)
    return photo if rgb is photo.rgb else replace(photo, rgb=rgb)
