"""
What the load client sends, as files it maps: `load.c` says how they look.

A publication is known by its file and seq, so the seqs go on where the last
publication that was really sent ended.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.document import FIRST_SEQ

_SUBSCRIBER = struct.Struct("<II")
_PUBLICATION = struct.Struct("<III")


def write_subscribers(
    path: Path, files: Iterable[int], request: Callable[[int], bytes]
) -> None:
    """Write who waits for what; the n-th entry is subscriber n."""
    with path.open("wb") as out:
        for file in files:
            bytes_ = request(file)
            out.write(_SUBSCRIBER.pack(file, len(bytes_)) + bytes_)


class Publications:
    """Publications in the order in which they are sent."""

    def __init__(self, request: Callable[[int, int], bytes]) -> None:
        self._request = request
        self._seqs: defaultdict[int, int] = defaultdict(lambda: FIRST_SEQ)
        self._written: list[int] = []

    def write(self, path: Path, files: Iterable[int]) -> None:
        """Write the next publication of each of `files`, in that order."""
        seqs = self._seqs.copy()
        self._written = []
        with path.open("wb") as out:
            for file in files:
                seqs[file] += 1
                bytes_ = self._request(file, seqs[file])
                out.write(_PUBLICATION.pack(file, seqs[file], len(bytes_)) + bytes_)
                self._written.append(file)

    def confirm(self, sent: int) -> None:
        """Only so many of them, from the first, were sent."""
        for file in self._written[:sent]:
            self._seqs[file] += 1
        self._written = []
