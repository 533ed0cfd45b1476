"""The errors that callers are meant to catch; their texts are for the person at the keyboard."""


class InputError(ValueError):
    """The input can't be used: the text says what was given, what is allowed, what to do."""


class WeightsError(RuntimeError):
    """A weight file can't be had, is damaged, or doesn't fit the network."""


class CropFailedError(RuntimeError):
    """The network gave no usable result for a face (non-finite values): nothing is pasted."""
