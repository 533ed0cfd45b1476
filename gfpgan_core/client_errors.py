"""Errors in the words of a server's client, without paths and command-line options."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from gfpgan_core.errors import (
    NO_ROOM_ON_SERVER,
    CropFailedError,
    InputError,
    MissingPackageError,
    WeightsError,
)
from gfpgan_core.runtime import is_out_of_memory

_logger = logging.getLogger(__name__)


@contextlib.contextmanager
def errors_for_clients(without_weights: str) -> Iterator[None]:
    """Turn errors raised within into ones whose text a client may read and can use.

    `InputError` passes. Of all else the server's log gets the details, such as paths.

    Args:
        without_weights: What a client can do where the server lacks the weights it asked for.
    """
    try:
        yield
    except MissingPackageError as error:
        _logger.warning("%s", error)
        raise InputError(client_text(error)) from None
    except InputError:
        raise
    except WeightsError as error:
        _logger.warning("weights: %s", error)
        raise InputError(
            f"this server can't use the weights that the request needs: {without_weights}, or ask"
            " who runs it"
        ) from None
    except CropFailedError as error:
        _logger.warning("a face failed: %s", error)
        raise InputError(
            "the network gave no usable result for a face: try another version"
        ) from None
    except OSError as error:
        _logger.exception("files")
        raise InputError(NO_ROOM_ON_SERVER) from error
    except Exception as error:
        if is_out_of_memory(error):
            _logger.warning("out of memory: %s", error)
            raise InputError(
                "the request needs more memory than this server has: send a smaller photo, or"
                " lower scale (batch_size of a training)"
            ) from None
        _logger.exception("unexpected")
        raise RuntimeError("an unexpected error; the server's log has the details") from error


def client_text(error: InputError) -> str:
    """Return what a client reads of an error that is the input's."""
    return error.for_clients if isinstance(error, MissingPackageError) else str(error)
