"""
What the stand-ins and the functions log: all of it in a file, problems said.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def logged(file: Path, say: Callable[[str], None]) -> Iterator[None]:
    """
    Log from here on.

    Args:
        file: Gets everything from INFO on.
        say: Shows one line to the person at the terminal; gets warnings.
    """
    problems = _Said(say)
    problems.setLevel(logging.WARNING)
    everything = logging.FileHandler(file, encoding="utf-8")
    everything.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    level_before = root.level
    root.setLevel(logging.INFO)
    for handler in (problems, everything):
        root.addHandler(handler)
    try:
        yield
    finally:
        root.setLevel(level_before)
        for handler in (problems, everything):
            root.removeHandler(handler)
            handler.close()


class _Said(logging.Handler):
    """One line, without the stack trace, which is in the file."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        first, *_ = record.getMessage().splitlines() or [""]
        self._say(f"{record.name.removeprefix('local.')}: {first}")
