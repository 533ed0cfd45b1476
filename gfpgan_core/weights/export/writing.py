"""Write exports whole or not at all, and replace files only where that is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gfpgan_core.errors import InputError, WeightsError
from gfpgan_core.files import whole_file


@contextlib.contextmanager
def written(path: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a temporary file that becomes `path` at the end.

    Raises:
        InputError: `path` exists, and `replace` is off.
        WeightsError: it can't be written.
    """
    check_free(path, replace=replace)
    try:
        with whole_file(path, replace=replace) as temporary:
            yield temporary
    except FileExistsError as error:  # made since
        raise InputError(_in_the_way(path)) from error
    except OSError as error:
        raise WeightsError(f"{path} can't be written: {error.strerror or error}") from error


def check_free(path: Path, *, replace: bool) -> None:
    """Check before the work that the file may be written.

    Raises:
        InputError: `path` is there, and may not be replaced.
    """
    if path.exists() and (path.is_dir() or not replace):
        raise InputError(_in_the_way(path))


def _in_the_way(path: Path) -> str:
    return f"{path} exists: --overwrite replaces a file, --output names another one"
