"""What can go wrong on purpose; the text is one line for the person at the terminal."""


class BenchError(Exception):
    """The bench cannot go on at all."""


class RunError(Exception):
    """One run gave no figures; it is recorded as failed and the rest goes on."""


class MissingError(RunError):
    """What the run needs is not here; the text says how to get it."""
