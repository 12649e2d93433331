"""
Waiting clients, parked: no task, no coroutine and no timer each.

A parked client is its subscriber object and its connection.  It is read
forward by the feed, beaten and ended by the wheel, and paused by its socket:
while the socket is full it is stalled, and when it drains it is read forward
from its cursor.  Nothing is queued for it.

    Poll    answered once: the blocking GET and the long-poll
    Stream  Server-Sent Events, of one file or of many
"""

import random
from collections.abc import Iterable, Mapping
from typing import Protocol

from gateway.auth import Viewer
from gateway.errors import GatewayError, NotFoundError, UnavailableError
from gateway.hub import Hub, Subscriber
from gateway.model import FileId, Reading
from gateway.protocol import cursor, longpoll, sse
from gateway.telemetry import Metrics
from gateway.wheel import TICK_S, Timed, Wheel

FIRST_READING_TIMEOUT_S = 10.0
LAST_READING_S = 1.0
"""When a drain meets it; sooner than the door closes what has no answer."""

STALL_LIMIT_S = 40.0
"""Looked at with each heartbeat, so whoever stops reading is gone in a minute."""

MAX_OPENING_BYTES = 16 * 1024
"""
A stream of many files opens when all of them were read; what is beyond this is
read again then, when there is room for it.
"""

RETRY_MS = 2000
HEARTBEAT_TICKS = 5
"""
Heartbeats of half a second go out together: one after the other, from warm
caches, each costs less than it costs alone.
"""

_GROUP_S = HEARTBEAT_TICKS * TICK_S

_JSON = ("Content-Type", "application/json; charset=utf-8")
_NO_STORE = ("Cache-Control", "no-store")
STREAM_HEADERS = (
    ("Content-Type", sse.CONTENT_TYPE),
    ("Cache-Control", "no-store, no-transform"),
    ("X-Accel-Buffering", "no"),
)


class Parked(Protocol):
    """Whatever a connection waits as."""

    def park(self) -> None:
        """Begin to wait."""

    def lost(self) -> None:
        """Hear that the connection is gone."""

    def paused(self) -> None:
        """Hear that the socket is full."""

    def resumed(self) -> None:
        """Hear that the socket has room again."""


class Line(Protocol):
    """What routes and parked clients need of a connection."""

    def park(self, parked: Parked) -> None:
        """Wait as `parked`."""

    def write(self, data: bytes) -> None:
        """Send bytes now."""

    def answer(
        self, status: int, headers: Iterable[tuple[str, str]], body: bytes
    ) -> None:
        """Send a whole response; the connection goes on to its next request."""

    def fail(self, error: GatewayError) -> None:
        """Send a problem; the connection goes on to its next request."""

    def open_stream(self, body: bytes) -> None:
        """Send the head of a stream and its first bytes."""

    def hang_up(self) -> None:
        """Close once everything written has left."""

    def abort(self) -> None:
        """Close now."""


class Lot:
    """
    What all parked clients share.

    Attributes:
        polls: Clients that wait to be answered once.
        streams: Open streams.
    """

    def __init__(
        self, hub: Hub, wheel: Wheel, metrics: Metrics, *, heartbeat_s: float
    ) -> None:
        self.hub = hub
        self.wheel = wheel
        self.heartbeat_s = heartbeat_s
        self.polls = 0
        self.streams = 0
        self.resets = metrics.resets
        self.byes = metrics.byes
        self.polled_events = metrics.events.labels("poll")
        self.streamed_events = metrics.events.labels("sse")
        metrics.subscribers.labels("poll").set_function(lambda: self.polls)
        metrics.subscribers.labels("sse").set_function(lambda: self.streams)


class _Wait(Timed):
    """The end of a poll's patience."""

    __slots__ = ("_poll",)

    def __init__(self, poll: "Poll") -> None:
        super().__init__()
        self._poll: Poll | None = poll

    def on_time(self) -> None:
        """Answer with what there is."""
        if self._poll is not None:
            self._poll.end("age")

    def drop(self, wheel: Wheel) -> None:
        """Let go of the poll, though the wheel may hold this a while yet."""
        wheel.drop(self)
        self._poll = None


class Poll(Subscriber):
    """A client that is answered once."""

    __slots__ = (
        "_line",
        "_lot",
        "_prefers",
        "_timer",
        "_viewer",
        "_wait_s",
        "_waits",
        "whole",
    )

    def __init__(
        self,
        lot: Lot,
        line: Line,
        viewer: Viewer,
        *,
        file_id: FileId,
        after: int,
        wait_s: int,
        whole: bool,
        prefers: bool = False,
    ) -> None:
        super().__init__(file_id, after)
        self.whole = whole
        self._timer = _Wait(self)
        self._lot = lot
        self._line = line
        self._viewer: Viewer | None = viewer
        self._wait_s = wait_s
        self._waits = False
        self._prefers = prefers

    def park(self) -> None:
        """Wait for the first reading."""
        self._lot.hub.add(self)
        self._lot.wheel.put(self._timer, FIRST_READING_TIMEOUT_S)

    def deliver(self, reading: Reading | None) -> None:
        """Answer, or begin to wait."""
        viewer = self._viewer
        if viewer is not None and (
            reading is None or not viewer.may_see(self.file_id, reading.owner)
        ):
            self._leave()
            self._line.fail(NotFoundError())
        elif reading and _stops_short(reading) and (self.whole or reading.reset):
            # Only the newest state will do, so it is asked for by itself.
            self.cursor = cursor.CURRENT if self.whole else cursor.UNKNOWN
        else:
            self._take(reading)

    def _take(self, reading: Reading | None) -> None:
        if self._viewer is not None and reading is not None:
            self._viewer = None
            if not (reading.events or reading.final or not self._wait_s):
                self.cursor = reading.head
                self._lot.wheel.put(self._timer, self._wait_s)
                self._waits = True
                self._lot.polls += 1
                return
        elif reading is not None and not (reading.events or reading.final):
            return
        self._answer(reading)

    def end(self, reason: str) -> None:
        """Be answered now: with nothing new, or not at all, but not twice."""
        if self._waits and self.cursor >= 0:
            self._answer(None)
        elif reason == "drain" and self._viewer is not None:
            # Its first reading is under way, and will do if it comes.
            self._wait_s = 0
            self._lot.wheel.put(self._timer, LAST_READING_S)
        elif self._waits or self._viewer is not None:
            self._leave()
            self._line.fail(UnavailableError("the table cannot be read now"))

    def lost(self) -> None:
        """Be forgotten: the connection is gone."""
        self._leave()

    def paused(self) -> None:
        """Nothing: a poll writes once."""

    def resumed(self) -> None:
        """Nothing: a poll writes once."""

    def _answer(self, reading: Reading | None) -> None:
        self._leave()
        if self.whole:
            self._answer_whole(reading)
        else:
            self._answer_list(reading)

    def _answer_list(self, reading: Reading | None) -> None:
        events = reading.events if reading else ()
        self._lot.polled_events.inc(len(events))
        after = events[-1].seq if events else self.cursor
        if reading and not events:
            after = reading.head
        if reading and reading.reset:
            self._lot.resets.inc()
        body = longpoll.encode(
            (event.data for event in events),
            after=after,
            final=bool(reading and reading.final),
            reset=reading.reset if reading else None,
        )
        self._line.answer(200, (_JSON, _NO_STORE), body)

    def _answer_whole(self, reading: Reading | None) -> None:
        seq = reading.head if reading else self.cursor
        headers = [("ETag", cursor.etag(seq)), _NO_STORE]
        if self._prefers:
            headers.append(("Preference-Applied", f"wait={self._wait_s}"))
        if reading is None or not reading.events:
            self._line.answer(304, headers, b"")
        else:
            self._line.answer(200, [_JSON, *headers], reading.events[-1].data)

    def _leave(self) -> None:
        self._viewer = None
        if self._waits:
            self._waits = False
            self._lot.polls -= 1
        self._timer.drop(self._lot.wheel)
        self._lot.hub.remove(self)


class _Leg(Subscriber):
    """One file of one stream."""

    __slots__ = ("_stream", "opened", "terminal")

    def __init__(self, file_id: FileId, after: int, stream: "Stream") -> None:
        super().__init__(file_id, after)
        self._stream = stream
        self.opened = False
        self.terminal = False

    def deliver(self, reading: Reading | None) -> None:
        """Let the stream write it."""
        self._stream.take(self, reading)

    def end(self, reason: str) -> None:
        """End the whole stream."""
        self._stream.end(reason)


class Stream(Timed):
    """
    Server-Sent Events on one connection: one file, or a board of many.

    A stream of one file is numbered and resumable from its cursor; a board
    begins with the current state of each file and has no cursor.
    """

    __slots__ = (
        "_at_end",
        "_counted",
        "_ends_at_s",
        "_held",
        "_legs",
        "_line",
        "_lot",
        "_numbered",
        "_opening",
        "_paused_at_s",
    )

    def __init__(
        self,
        lot: Lot,
        line: Line,
        viewer: Viewer,
        *,
        cursors: Mapping[FileId, int],
        numbered: bool,
        ends_at_s: float,
        at_end: str,
    ) -> None:
        super().__init__()
        self._lot = lot
        self._line = line
        self._opening: Viewer | None = viewer
        self._legs: tuple[_Leg, ...] = tuple(
            _Leg(file_id, at, self) for file_id, at in cursors.items()
        )
        self._numbered = numbered
        self._ends_at_s = ends_at_s
        self._at_end = at_end
        self._held = b""
        self._paused_at_s: float | None = None
        self._counted = False

    def park(self) -> None:
        """Wait for the first reading of every file."""
        for leg in self._legs:
            self._lot.hub.add(leg)
        self._lot.wheel.put(self, FIRST_READING_TIMEOUT_S)

    def take(self, leg: _Leg, reading: Reading | None) -> None:
        """Write what is beyond one leg's cursor; open once every leg was read."""
        viewer = self._opening
        if viewer is not None and (
            reading is None or not viewer.may_see(leg.file_id, reading.owner)
        ):
            self._leave()
            self._line.fail(NotFoundError())
            return
        if reading is None:
            return
        if reading.reset and _stops_short(reading):
            leg.cursor = cursor.UNKNOWN
            return
        if viewer is not None and len(self._held) > MAX_OPENING_BYTES:
            leg.opened = leg.stalled = True
            self._open(b"")
            return
        frames = self._frames(reading)
        leg.cursor = reading.events[-1].seq if reading.events else reading.head
        leg.terminal = reading.final
        leg.opened = True
        if viewer is not None:
            self._open(frames)
        elif frames:
            self._line.write(frames)
        if leg.terminal and self._counted and all(one.terminal for one in self._legs):
            self._bye("final")

    def on_time(self) -> None:
        """Beat, end, or give up on a first reading or a stalled reader."""
        now_s, paused_at_s = self._lot.wheel.now_s(), self._paused_at_s
        if self._opening is not None:
            self._refuse()
        elif now_s >= self._ends_at_s:
            self._bye(self._at_end)
        elif paused_at_s is not None and now_s - paused_at_s > STALL_LIMIT_S:
            self._lot.byes.labels("behind").inc()
            self._line.abort()
        else:
            if paused_at_s is None:
                self._line.write(sse.HEARTBEAT)
            self._sleep(now_s, self._lot.heartbeat_s)

    def end(self, reason: str) -> None:
        """Be ended from outside: a drain, or a table that cannot be read."""
        if self._opening is not None:
            self._refuse()
        elif self._counted:
            self._bye(reason)

    def lost(self) -> None:
        """Be forgotten: the connection is gone."""
        self._leave()

    def paused(self) -> None:
        """Be left alone until the socket has room."""
        self._paused_at_s = self._lot.wheel.now_s()
        for leg in self._legs:
            leg.stalled = True

    def resumed(self) -> None:
        """Be read forward, each file from its cursor."""
        self._paused_at_s = None
        for leg in self._legs:
            self._lot.hub.resume(leg)

    def _frames(self, reading: Reading) -> bytes:
        events = reading.events
        self._lot.streamed_events.inc(len(events))
        if not self._numbered:
            return b"".join(sse.unnumbered(event.data) for event in events)
        if reading.reset:
            self._lot.resets.inc()
            return sse.reset(reading.reset) + b"".join(one.frame for one in events)
        if len(events) == 1:
            return events[0].frame
        return b"".join(event.frame for event in events)

    def _open(self, frames: bytes) -> None:
        self._held += frames
        if not all(leg.opened for leg in self._legs):
            return
        held, self._held = self._held, b""
        self._opening = None
        if self._numbered and not held and self._legs[0].terminal:
            self._leave()
            self._line.answer(204, (), b"")
            return
        self._counted = True
        self._lot.streams += 1
        # The first beat is anywhere within the interval, so that clients which
        # came together do not beat together.
        first_s = self._lot.heartbeat_s * random.random()  # noqa: S311 - spreads load, guards nothing
        self._sleep(self._lot.wheel.now_s(), first_s)
        self._line.open_stream(sse.hello(RETRY_MS) + held)
        if self._paused_at_s is None:
            self.resumed()

    def _refuse(self) -> None:
        self._leave()
        refuse(self._lot, self._line)

    def _bye(self, reason: str) -> None:
        spread_ms = spread_retry_ms() if reason == "drain" else None
        self._leave()
        self._lot.byes.labels(reason).inc()
        self._line.write(sse.bye(reason, retry_ms=spread_ms))
        self._line.hang_up()

    def _sleep(self, now_s: float, beat_s: float) -> None:
        """Sleep to the next beat, or to the end if that comes before."""
        left_s = self._ends_at_s - now_s
        if beat_s + _GROUP_S < left_s:
            # Rounded up to a group: to the interval, as seen from another one.
            wait_s = max(0.0, beat_s - _GROUP_S / 2)
            self._lot.wheel.put(self, wait_s, ticks=HEARTBEAT_TICKS)
        else:
            self._lot.wheel.put(self, max(0.0, min(beat_s, left_s)))

    def _leave(self) -> None:
        self._opening = None
        if self._counted:
            self._counted = False
            self._lot.streams -= 1
        self._lot.wheel.drop(self)
        # They point back here: without this, only the cycle collector frees us.
        legs, self._legs = self._legs, ()
        for leg in legs:
            self._lot.hub.remove(leg)


def _stops_short(reading: Reading) -> bool:
    """Tell whether a page ended before the newest event."""
    return bool(reading.events) and reading.events[-1].seq < reading.head


def refuse(lot: Lot, line: Line) -> None:
    """Refuse a stream for now, in the only way a browser comes back from."""
    lot.byes.labels("refused").inc()
    line.open_stream(sse.hello(spread_retry_ms()) + sse.bye("refused"))
    line.hang_up()


def spread_retry_ms() -> int:
    """Pick a reconnect delay that keeps a herd apart."""
    return random.randint(1000, 5000)  # noqa: S311 - spreads load, guards nothing
