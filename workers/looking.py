"""
Looking at the table whether or not it rings: often while deaf, seldom as a
safety net.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gateway.errors import UnavailableError

DEAF_LOOK_INTERVAL_S = 1.0


class Looking:
    """
    Looks regularly.

    Args:
        look: Asks the table which waited-for files have moved.
        safety_look_s: Between looks while doorbells are heard.

    Attributes:
        hearing: Set while it is known that doorbells are heard.
        lost: Set to look at once.
    """

    def __init__(
        self, look: Callable[[], Awaitable[None]], *, safety_look_s: float
    ) -> None:
        self.hearing = asyncio.Event()
        self.lost = asyncio.Event()
        self._look = look
        self._safety_look_s = safety_look_s

    async def run(self) -> None:
        """Look until cancelled."""
        looked_at = time.monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(DEAF_LOOK_INTERVAL_S):
                    await self.lost.wait()
            self.lost.clear()
            due_at = looked_at + self._safety_look_s
            if self.hearing.is_set() and time.monotonic() < due_at:
                continue
            looked_at = time.monotonic()
            with suppress(UnavailableError):
                await self._look()
