"""What one client was told of one file, judged as it is told."""

from bench.invariants.rules import must
from bench.invariants.tables import File
from gateway.protocol.cursor import CURRENT


class Story:
    """
    One reader of one file: a cursor that must move as promised.

    Attributes:
        cursor: Last seq it was told, or what it asked with.
        told: Each seq, and whether a reset came before it.
    """

    def __init__(self, file: File, cursor: int, *, numbered: bool = True) -> None:
        self.file = file
        self.cursor = cursor
        self.told: list[tuple[int, bool]] = []
        self._numbered = numbered
        self._came_back = False
        self._reset = False
        self.ask()

    @property
    def floor(self) -> int:
        """No answer may be older than what was there when it was asked for."""
        if self.file.failovers == self._failovers:
            return self._head_when_asked
        return min(self._head_when_asked, self.file.floor)

    def ask(self, *, again: bool = False) -> None:
        """Ask from the cursor; `again` after a connection or an answer."""
        self._head_when_asked = self.file.head
        self._failovers = self.file.failovers
        self._came_back = again
        self._reset = False

    def reset(self) -> None:
        """Be told that the cursor cannot be continued."""
        must(12, not self._reset, "two resets and no state between")
        must(12, self.cursor != CURRENT, "a reset without a cursor")
        self._reset = True

    def take(self, seq: int, data: bytes) -> None:
        """Be told one event."""
        stored = self.file.events.get(seq)
        must(21, stored is not None and stored.data == data, (seq, data))
        where, file = self._where(seq), self.file
        # A board has no word for a reset: there it is a leap.
        leaps = self._reset or not (self._numbered or seq == self.cursor + 1)
        if self.cursor == CURRENT:
            must(2, seq >= self.floor, where)
        elif leaps:
            stale = not 0 <= self.cursor <= self.floor
            must(12, stale or file.is_broken_between(self.cursor, seq), where)
            must(10, seq >= self.floor, where)
            must(3, stale or seq > self.cursor, where)
        else:
            must(9 if self._came_back else 3, seq == self.cursor + 1, where)
            if self.cursor:
                must(11, file.epochs[self.cursor] == file.epochs[seq], where)
        self.told.append((seq, self._reset))
        self._reset = False
        self.cursor = seq

    def nothing_new(self) -> None:
        """Be told that there is nothing after the cursor."""
        must(12, not self._reset, "a reset without the state that it promises")
        must(2, self.cursor >= self.floor, self._where(None))

    def end(self) -> None:
        """Be told that nothing will follow."""
        self.nothing_new()
        state = self.file.states.get(self.cursor)
        must(5, state is not None and state.status.terminal, self._where(None))

    def must_be_current(self, number: int, head: int) -> None:
        """Judge whether everything up to `head` was told."""
        # What a failover has lost is not taken back before something follows.
        current = self.cursor >= min(head, self.file.head)
        must(number, current, (*self._where(None), head))

    def _where(self, seq: int | None) -> tuple[object, ...]:
        return self.file.id, self.cursor, seq, self.floor, self.file.head
