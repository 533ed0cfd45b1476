"""Limits of untrusted pictures, archives and weight files, each with its reason.

The goal: a file of less than 1 MB costs less than 10 s and 1 GiB, whatever is in it. Measured on
two cores by `tests/test_hostile_pictures.py`.
"""

from __future__ import annotations

# Pictures

MIN_SIDE_PX = 16  # below it no face can be found
MAX_SIDE_PX = 16_384  # twice that, at scale 2, is what OpenCV resamples
MAX_INPUT_MEGAPIXELS = 64  # 0.45 GiB while decoded: Pillow's 4 bytes a pixel and our 3
MAX_OUTPUT_MEGAPIXELS = 128
MAX_OUTPUT_SIDE_PX = 32_000  # OpenCV resamples at most 32767
MAX_IMAGE_BYTES = 2**30  # 64 megapixels of four 32-bit samples, uncompressed

# libwebp holds two canvases, Pillow a copy and the image: 16 bytes a pixel.
MAX_WEBP_MEGAPIXELS = 40
# Decoders hold planes, pixels and Pillow's copy: 12 bytes a pixel. Phones' largest have 48.8.
MAX_HEIF_MEGAPIXELS = 50
# Pillow expands run lengths in Python, 0.14 s a megapixel.
MAX_RLE_MEGAPIXELS = 8
# Each scan visits each block: 30 ms at 64 megapixels. Encoders write about 10.
MAX_JPEG_SCANS = 64
# In a TIFF, for each strip or tile: one, or one for each component.
MAX_STRIP_SCANS = 4
# A page of an animation is decoded by way of all before it.
MAX_ANIMATION_MEGAPIXELS = 512
MAX_PAGES = 1000  # that are counted: reading a TIFF's directory takes 0.1 ms
MAX_VIEWS = 16  # that are counted of a JPEG file: stereo cameras write two
MAX_PROFILE_BYTES = 4 * 2**20  # color profiles of printers, the largest in use, have 3 MB

# Archives

MAX_ARCHIVE_ENTRIES = 20_000
MAX_ENTRY_BYTES = 64 * 2**20  # what a photo may have in an archive
MAX_UNPACKED_BYTES = 8 * 2**30
# Photos hardly shrink; uncompressed ones of flat areas do. bzip2 takes 3 s for 96 MiB of zeros.
MAX_EXPANSION = 100
MIN_EXPANSION_BYTES = 96 * 2**20  # which any archive may hold, however small it is
# Longer names and extended headers are no camera's. Python's readers hold a header in memory.
MAX_HEADER_BYTES = 64 * 2**10
# Python's pax reader takes time that grows with the square of a run of digits.
MAX_HEADER_DIGITS = 64
MAX_HEADER_RECORDS = 64  # of a pax header; GNU tar and macOS write up to 20
MAX_DIRECTORY_BYTES = 16 * 2**20  # a zip's list of entries: 20,000 with names of 700 bytes

# Weight files

MAX_STORED_BYTES = 4 * 2**30  # the largest release has 0.6 GiB
MAX_WEIGHTS_BYTES = 2 * 2**30  # of a file that a server fetches, and of the tar around it
MAX_DESCRIPTION_BYTES = 16 * 2**20  # names, shapes and types; a release has 0.2 MiB of them
MAX_PICKLE_INSTRUCTIONS = 1_000_000  # a release has 30,000; a million take 2 s
MAX_TENSORS = 20_000  # a release has 1,000
MAX_TENSOR_NAME = 300  # characters
MAX_CONFIG_LENGTH = 10_000  # characters of JSON that describe a network; ours have 250

# Files of a training that `torch.save` wrote

MAX_CHECKPOINT_BYTES = 64 * 2**30  # of all networks, averages and optimizers: v1.4's have 2 GiB
MAX_BOXES_BYTES = 128 * 2**20  # upstream's boxes of FFHQ's 70,000 faces have 36 MiB
MAX_BOXES_INSTRUCTIONS = 20_000_000  # these have 9 million, for numpy's numbers
