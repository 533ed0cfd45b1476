"""Errors that stop a training; those of its input are in `gfpgan_core.errors`."""


class TrainingError(RuntimeError):
    """The run can't go on; its last good checkpoint is kept."""


class DivergedError(TrainingError):
    """A loss or a gradient isn't finite."""
