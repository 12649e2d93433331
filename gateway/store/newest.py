"""
The newest events of this process' own making, for a short while.

A doorbell mostly rings for what the same process has just committed; that need
not be read back.  What is not here any more, or was written by another gateway,
is read from the table: this is a memory of it, never a source.
"""

from gateway.model import FileId, Reading

MAX_FILES = 512
"""A little more than one transaction writes; a doorbell follows its commit."""


class Newest:
    """The last events written, by file."""

    def __init__(self) -> None:
        self._readings: dict[FileId, Reading] = {}

    def put(self, file_id: FileId, reading: Reading) -> None:
        """Remember what one committed transaction wrote for one file."""
        self._readings.pop(file_id, None)
        self._readings[file_id] = reading
        if len(self._readings) > MAX_FILES:
            del self._readings[next(iter(self._readings))]

    def get(self, file_id: FileId) -> Reading | None:
        """Recall the last events written for a file."""
        return self._readings.get(file_id)
