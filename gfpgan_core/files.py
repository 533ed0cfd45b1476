"""Write files atomically: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

PARTIAL_SUFFIX = ".partial"

# How file systems without hard links, such as FAT, refuse one.
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)

_T = TypeVar("_T")


def write_behind(made: Iterable[_T], write: Callable[[_T], None]) -> None:
    """Call `write` for each thing, in order, in another thread: the next one is made meanwhile.

    An error of `write` ends the loop.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="write") as writer:
        before: Future[None] | None = None
        for thing in made:
            written = writer.submit(write, thing)
            if before:
                before.result()
            before = written
        if before:
            before.result()


@contextlib.contextmanager
def whole_file(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary file beside `path`; what is written there becomes `path` at the end.

    On an error the temporary file is removed, and `path` stays what it was. After a power cut or a
    kill, `path` is the old file or the new one, never a part of it. Missing folders are made. The
    result has the permissions that new files get here, whatever the writer gave it.

    Raises:
        FileExistsError: `path` exists, and `replace` is off.
        OSError: the file can't be written. Errors of the code within pass through.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_partial_prefix(path)}{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    # Made here and exclusively: whoever else writes to the folder can't have laid a link there.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        yield temporary
        temporary.chmod(mode)
        _flush_to_disk(temporary)
        if replace:
            temporary.replace(path)
        else:
            _rename_unless_exists(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # not every system opens folders
        _flush_to_disk(path.parent)


def _rename_unless_exists(temporary: Path, path: Path) -> None:
    """Rename a file; where the new name exists, raise `FileExistsError`, as `rename` does not."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(path):  # here alone another process could come between
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        temporary.replace(path)
    else:
        temporary.unlink()


def _partial_prefix(path: Path) -> str:
    """Return a short prefix that tells `path` from its neighbors, whose names may be long."""
    return f".{zlib.crc32(os.fsencode(path.name)):08x}-"


def _flush_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_partial_files(folder: Path, older_than_s: float = 0) -> None:
    """Remove the temporary files that killed processes left in a folder.

    `older_than_s` is 0 only where no other process writes now: files of others are seconds old.
    """
    digits = "[0-9a-f]" * 8
    for path in folder.glob(f".{digits}-{digits}{PARTIAL_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.lstat().st_mtime >= older_than_s:
                path.unlink()


def remove_partial_files_of(path: Path) -> None:
    """Remove what killed processes left of `path`, which no other process writes now."""
    for left in path.parent.glob(f"{_partial_prefix(path)}*{PARTIAL_SUFFIX}"):
        left.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content.

    Raises:
        OSError: it can't be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
