"""The errors that callers are meant to catch; their texts are written for users."""

NO_ROOM_ON_SERVER = (
    "this server can't write its files at the moment (its disk may be full): try again later"
)
"""What a client reads when the server's files can't be written."""


class InputError(ValueError):
    """The input can't be used: the text says what was given, what is allowed, what to do."""


class MissingPackageError(InputError):
    """The input needs an optional package that isn't installed here."""

    def __init__(self, text: str, for_clients: str) -> None:
        """Take the text, and the one for the client of a server, who can install nothing."""
        super().__init__(text)
        self.for_clients = for_clients


class WeightsError(RuntimeError):
    """A weight file can't be had, is damaged, or doesn't fit the network."""


class CropFailedError(RuntimeError):
    """The network gave no usable result for a face (non-finite values): nothing is pasted."""


_EXPECTED = (InputError, WeightsError, CropFailedError)


def error_text(error: BaseException) -> str:
    """Return an error's text for users; an unexpected error is called a defect."""
    if isinstance(error, _EXPECTED):
        return " ".join(str(error).splitlines())
    if isinstance(error, MemoryError):
        return f"there is not enough memory for it: {error}".removesuffix(": ")
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} (a defect of this program: please report it)"
