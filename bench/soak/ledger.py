"""
The oracle: what was acknowledged, against what each client received.

Nothing is forgiven: an event that is missing, comes twice, comes out of order or
says something else than the table is counted, for every client.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from zlib import crc32

from bench.errors import RunError


class Ledger:
    """
    One run's truth.

    Attributes:
        faults: What must not have happened, by name.
        heads: Last acknowledged seq of each file.
        received: Events that clients took.
    """

    def __init__(self) -> None:
        self.faults: Counter[str] = Counter()
        self.heads: dict[str, int] = {}
        self.received = 0
        self._acknowledged: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._seen: defaultdict[str, dict[int, int]] = defaultdict(dict)

    @property
    def acknowledged(self) -> int:
        """Reports that were answered as applied."""
        return sum(map(len, self._acknowledged.values()))

    def acknowledge(self, file_id: str, seq: int, attempt: int) -> None:
        """Write down an answer; each seq is given once, and they rise."""
        answered = self._acknowledged[file_id]
        if seq in answered:
            self.faults["a seq was given twice"] += 1
        if seq <= self.heads.get(file_id, 0):
            self.faults["a later report has no later seq"] += 1
        answered[seq] = attempt
        self.heads[file_id] = max(seq, self.heads.get(file_id, 0))

    def receive(self, file_id: str, before: int, seq: int, data: bytes) -> None:
        """
        Judge what one client was sent.

        Args:
            before: The last seq it had of this file.
        """
        self.received += 1
        if seq <= before:
            self.faults["an event came twice or late"] += 1
        elif seq > before + 1:
            self.faults["an event was skipped"] += 1
        said = crc32(data)
        if self._seen[file_id].setdefault(seq, said) != said:
            self.faults["two clients were told different things"] += 1

    def finish(self, file_id: str, last: int) -> None:
        """Judge whether a client that was told of the end has everything."""
        if last < self.heads.get(file_id, 0):
            self.faults["an end was told too early"] += 1

    def audit(self, file_id: str, events: Iterable[tuple[int, int, bytes]]) -> None:
        """
        Compare everything said of a file with its table.

        Args:
            events: Seq, attempt and document of every event, oldest first.
        """
        stored = {seq: (attempt, crc32(data)) for seq, attempt, data in events}
        if list(stored) != list(range(1, len(stored) + 1)):
            self.faults["the table has a hole"] += 1
        for seq, attempt in self._acknowledged[file_id].items():
            if seq not in stored:
                self.faults["an acknowledged report is lost"] += 1
            elif stored[seq][0] != attempt:
                self.faults["an acknowledged report is another"] += 1
        for seq, said in self._seen[file_id].items():
            if seq not in stored:
                self.faults["a client was told what the table does not hold"] += 1
            elif stored[seq][1] != said:
                self.faults["a client was told something else"] += 1


class CatchUp:
    """
    How long clients take to have what was acknowledged at one moment.

    Attributes:
        samples_s: Of clients that lacked something then, and have it now.
    """

    def __init__(self) -> None:
        self.samples_s: list[float] = []
        self._since_s = 0.0

    def begin(self) -> None:
        """It is that moment."""
        self._since_s = time.monotonic()

    def reached(self) -> None:
        """One of them has it."""
        self.samples_s.append(time.monotonic() - self._since_s)


def percentile(samples: list[float], part: float) -> float:
    """
    The sample below which `part` of them lie.

    Raises:
        RunError: There is none, which is no figure at all.
    """
    if not samples:
        raise RunError("nothing was measured")
    ranked = sorted(samples)
    return ranked[min(len(ranked) - 1, int(len(ranked) * part))]
