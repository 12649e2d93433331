"""
One timer for everybody: heartbeats, waits, ages, deadlines.

A waiting client costs a place in a list, not a timer.  Time is cut into ticks;
an entry is called in the tick it asked for, never early.  An entry that asked
again, or left, is still in its old list and passed over there, so putting and
dropping cost nothing but that.
"""

import asyncio
from collections import defaultdict

TICK_S = 0.1

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
        self._ticks: defaultdict[int, list[Timed]] = defaultdict(list)
        self._tick = 0

    def now_s(self) -> float:
        """Seconds on the clock that `put` counts by."""
        return self._loop.time() - self._started_at

    def put(self, entry: Timed, after_s: float) -> None:
        """Call `entry` once, after at least `after_s` seconds."""
        entry.due = int((self.now_s() + after_s) / TICK_S) + 1
        self._ticks[entry.due].append(entry)

    async def run(self) -> None:
        """Turn until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.turn(self.now_s())

    def turn(self, now_s: float) -> None:
        """Call everyone whose tick has passed by `now_s`."""
        while self._tick < int(now_s / TICK_S):
            self._tick += 1
            for entry in self._ticks.pop(self._tick, ()):
                if entry.due == self._tick:
                    entry.due = NEVER
                    self._call(entry)

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
