"""A wheel that is turned by hand."""

from typing import Any

from gateway.wheel import TICK_S, Wheel


class TurnedWheel(Wheel):
    """
    Time passes when `pass_s` says so.

    Attributes:
        complaints: What entries raised, as the loop was told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.complaints: list[dict[str, Any]] = []
        self._now_s = 1000.0
        self._loop.set_exception_handler(lambda _, said: self.complaints.append(said))

    def now_s(self) -> float:
        return self._now_s

    def pass_s(self, seconds: float, *, at_once: bool = False) -> None:
        """Let time pass, a tick at a time unless the loop was away."""
        end_s = self._now_s + seconds
        while not at_once and self._now_s + TICK_S < end_s:
            self._now_s += TICK_S
            self.turn(self._now_s)
        self._now_s = end_s
        self.turn(self._now_s)
