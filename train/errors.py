"""What stops a training; `gfpgan_core.errors` has the errors of its input."""


class TrainingError(RuntimeError):
    """The run can't go on; its last good checkpoint is kept."""


class DivergedError(TrainingError):
    """A loss or a gradient isn't finite."""
