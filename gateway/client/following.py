"""
Where a watch of one file stands: pure decisions, no I/O.

The cursor is the seq of the last state handed on, so whatever a connection
repeats or loses, nothing is handed on twice and nothing newer is missed.

Source: docs/protocol.md; AWS Builders' Library, "Timeouts, retries, and backoff
with jitter" (full jitter).
"""

import random

import msgspec

from gateway.model import FileState
from gateway.protocol.sse_parser import ServerEvent, SseParser

FIRST_RETRY_S = 2.0
MAX_RETRY_S = 300.0
MAX_BACKOFF_S = 30.0
BUSY_S = 10.0
"""Between two questions of who may not wait now; half of it is random."""


class Bye(msgspec.Struct, frozen=True):
    """What a planned close says."""

    reason: str = ""


class Page(msgspec.Struct, frozen=True):
    """What a question without a stream is answered."""

    events: list[FileState]
    after: int
    final: bool


class Following:
    """
    One watch, over as many connections as it takes.

    Attributes:
        cursor: Seq of the last state handed on; None asks for the current one.
        final: Whether nothing can follow any more.
        silent: Whether this connection is open and has told nothing of the file.
        refused: Whether it was refused for now, and is told when it only asks.
        heard: Whether a gateway was heard, over any connection.
        retry_s: The reconnect delay that the gateway asked for last.
    """

    def __init__(self, after: int | None = None) -> None:
        self.cursor = after
        self.final = False
        self.silent = False
        self.refused = False
        self.heard = False
        self.retry_s = FIRST_RETRY_S
        self._parser = SseParser()
        self._failures = 0
        self._at_least_s = 0.0

    def begin(self) -> None:
        """Expect the bytes of a new connection."""
        self._parser = SseParser()
        self.silent = self.refused = False

    def opened(self) -> None:
        """Expect words: until one comes, something may hold them back."""
        self.silent = True

    def feed(self, chunk: bytes) -> list[FileState]:
        """
        Take what arrived; give the newer states it brought.

        Raises:
            ValueError: It is not what a gateway sends.
        """
        try:
            events = self._parser.feed(chunk)
            states = [state for event in events if (state := self._take(event))]
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error
        if events:
            self.heard = True
        if self._parser.retry_ms is not None:
            self.retry_s = min(self._parser.retry_ms / 1000, MAX_RETRY_S)
        return states

    def catch_up(self, page: Page) -> list[FileState]:
        """Take what a question without a wait brought; give the newer states."""
        if self.cursor is not None and page.after < self.cursor:
            self.cursor = None
        self.heard = True
        if self.refused:
            self._failures = 0
        self.final = page.final
        return [state for one in page.events if (state := self._newer(one))]

    def failed(self, *, at_least_s: float = 0.0) -> None:
        """
        Count a connection that could not be made, or broke.

        Args:
            at_least_s: What the refusal asked to wait (``Retry-After``).
        """
        self._failures += 1
        self._at_least_s = at_least_s

    def unanswered(self, *, at_least_s: float = 0.0) -> None:
        """
        Take note that not even a question without a wait was answered.

        Args:
            at_least_s: As of `failed`, which counts the connection itself.
        """
        self.refused = False
        self._at_least_s = at_least_s

    def delay_s(self) -> float:
        """Seconds to wait before the next connection."""
        if self.refused:
            busy_s = random.uniform(BUSY_S / 2, BUSY_S)  # noqa: S311 - spreads a herd, guards nothing
            return max(self.retry_s, busy_s)
        if not self._failures:
            return self.retry_s
        at_least_s, self._at_least_s = self._at_least_s, 0.0
        most_s = min(MAX_BACKOFF_S, self.retry_s * 2 ** min(self._failures, 10))
        return at_least_s + random.uniform(0, most_s)  # noqa: S311 - spreads a herd, guards nothing

    def _take(self, event: ServerEvent) -> FileState | None:
        if event.type == "bye":
            bye = msgspec.json.decode(event.data, type=Bye)
            self.final = bye.reason == "final"
            self.refused = bye.reason == "refused"
        if self.refused:
            return None
        self._failures = 0
        self.silent = False
        if event.type == "message":
            return self._newer(msgspec.json.decode(event.data, type=FileState))
        if event.type == "reset":
            self.cursor = None
        return None

    def _newer(self, state: FileState) -> FileState | None:
        if self.cursor is not None and state.seq <= self.cursor:
            return None
        self.cursor = state.seq
        return state
