"""
One timer for everybody: heartbeats, waits, ages, deadlines.

A waiting client costs a place in a list, not a timer.  Time is cut into ticks;
an entry is called in the tick it asked for, never early.  An entry that asked
again, or left, is still in its old list and passed over there, so putting and
dropping cost nothing but that; when most places are such, they are cleared.
Between ticks that somebody waits for the wheel sleeps: waking up costs more than
a call.
"""

import asyncio
from heapq import heappop, heappush

TICK_S = 0.1
MAX_CALLS = 200
"""In one go; what else waits is served in between."""

MIN_LEFT = 1000
"""Places of entries that left are cleared when there are so many, and they are most."""

NEVER = -1


class Timed:
    """
    Something that is called back once per `Wheel.put`.

    Attributes:
        due: The tick it waits for, or `NEVER`.
    """

    __slots__ = ("due",)

    def __init__(self) -> None:
        self.due = NEVER

    def on_time(self) -> None:
        """Do what was to be done then."""
        raise NotImplementedError


class Wheel:
    """All timers of one process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._ticks: dict[int, list[Timed]] = {}
        self._order: list[int] = []
        self._places = 0
        self._left = 0
        self._alarm: asyncio.TimerHandle | None = None
        self._rung = asyncio.Event()

    def now_s(self) -> float:
        """Seconds on the clock that `put` counts by."""
        return self._loop.time() - self._started_at

    def put(self, entry: Timed, after_s: float, *, ticks: int = 1) -> None:
        """
        Call `entry` once, after at least `after_s` seconds.

        Args:
            ticks: With others of the next multiple of so many.
        """
        due = int((self.now_s() + after_s) / TICK_S) + 1
        due += -due % ticks
        if entry.due == due:
            return
        was_due, entry.due = entry.due, due
        self._places += 1
        entries = self._ticks.get(due)
        if entries is None:
            self._ticks[due] = [entry]
            heappush(self._order, due)
            if self._order[0] == due:
                self._set_alarm()
        else:
            entries.append(entry)
        if was_due != NEVER:
            self._leave()

    def put_sooner(self, entry: Timed, after_s: float) -> None:
        """Do as `put`, unless `entry` is called sooner than that anyway."""
        if entry.due == NEVER or entry.due > (self.now_s() + after_s) / TICK_S + 1:
            self.put(entry, after_s)

    def drop(self, entry: Timed) -> None:
        """Do not call `entry`, and let go of it soon."""
        if entry.due != NEVER:
            entry.due = NEVER
            self._leave()

    async def run(self) -> None:
        """Turn until cancelled; others have their turn between many calls."""
        while True:
            if self.turn(self.now_s(), most=MAX_CALLS):
                await asyncio.sleep(0)
                continue
            self._set_alarm()
            await self._rung.wait()
            self._rung.clear()

    def turn(self, now_s: float, *, most: int | None = None) -> bool:
        """
        Call everyone whose tick has passed by `now_s`.

        Args:
            most: Stop after so many calls.

        Returns:
            Whether it stopped before everyone was called.
        """
        calls = 0
        while self._order and self._order[0] <= int(now_s / TICK_S):
            tick = self._order[0]
            entries = self._ticks[tick]
            while entries:
                if entries[-1].due == tick and calls == most:
                    return True
                entry = entries.pop()
                self._places -= 1
                if entry.due == tick:
                    calls += 1
                    entry.due = NEVER
                    self._call(entry)
                else:
                    self._left -= 1
            del self._ticks[heappop(self._order)]
        return False

    def _leave(self) -> None:
        """Count a place that an entry left behind; clear them before they are many."""
        self._left += 1
        if self._left >= max(MIN_LEFT, self._places / 2):
            for tick, entries in self._ticks.items():
                entries[:] = dict.fromkeys(one for one in entries if one.due == tick)
            self._places = sum(map(len, self._ticks.values()))
            self._left = 0

    def _set_alarm(self) -> None:
        """Wake up for the next tick that somebody waits for."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._order:
            # A little late: a timer that is early by a rounding would spin.
            at = self._started_at + self._order[0] * TICK_S + 0.001
            self._alarm = self._loop.call_at(at, self._rung.set)

    def _call(self, entry: Timed) -> None:
        """Call one; what it raises is its own affair, as with `call_later`."""
        try:
            entry.on_time()
        except Exception as error:  # noqa: BLE001 - all others are still to be called
            self._loop.call_exception_handler(
                {
                    "message": f"{type(entry).__name__}.on_time failed",
                    "exception": error,
                }
            )
