"""Say what a file is that isn't weights, and where to get the right one."""

from __future__ import annotations

import re
from pathlib import Path

from gfpgan_core.formats import is_web_page
from gfpgan_core.weights.releases import WeightFile, all_files

_LFS_POINTER = b"version https://git-lfs"
_XML = b"<?xml"  # as pages and the errors of file hosts begin

# First bytes of files that users have passed as weights by mistake.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them: weights of PyTorch are read"),
    (b"GGUF", "a GGUF file: weights of PyTorch are read"),
    (b"\x80", "a pickle that `torch.save` didn't write"),
)


def kind_of(head: bytes, size: int) -> str:
    """Say in a clause what a file is that isn't weights, from its first bytes and its size."""
    if size == 0:
        return "it is empty: its download failed"
    if head.startswith(_LFS_POINTER):
        stated = re.search(rb"^size (\d{1,15})$", head, re.MULTILINE)
        of = f" of {int(stated[1]):,} bytes" if stated else ""
        return (
            f"it is a Git LFS pointer, which stands for a file{of}: run `git lfs pull` where it"
            " comes from, or download the file itself"
        )
    if is_web_page(head) or head.lstrip().lower().startswith(_XML):
        return (
            "it is a web page, saved in place of the file that the page offers: use the download"
            " link's own address"
        )
    if head.startswith((b"PK\3\4", b"\x80\x02\x8a\x0a")) or head[8:9] == b"{":
        return "it looks like weights, damaged or of another network"
    for start, kind in _KINDS:
        if head.startswith(start):
            return f"it is {kind}"
    if head[257:262] == b"ustar":
        return "it is a tar archive: unpack it first"
    if not head.strip(b"\0"):
        return "it begins with zeros: its download wasn't completed"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "it is a text, saved in place of the file: download that itself"
    return "it is neither a safetensors file nor one that `torch.save` wrote"


def right_file(path: Path) -> str:
    """Say where to get the file of that name, or "" where the name is no release's."""
    known = next((file for file in all_files() if file.name == path.name), None)
    return f". {origin(known)}" if known else ""


def origin(file: WeightFile) -> str:
    """Say a release file's size and where it comes from."""
    size = f"has {file.bytes:,} bytes and " if file.bytes is not None else ""
    return f"{file.name} {size}comes from {file.url}"
