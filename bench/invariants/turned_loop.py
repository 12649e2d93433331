"""
An event loop whose time passes when it is told to.

Callbacks run in the order they were asked for and timers in the order they are
due, as in asyncio's own loops; nothing sleeps, so an hour costs what happens
in it.
"""

# ruff: noqa: SLF001 - what a loop does to handles and threads has no public names

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from typing import Any

MAX_CALLS = 100_000
"""In one turn; more is a loop that runs in circles."""


class TurnedLoop(asyncio.AbstractEventLoop):
    """
    Runs what is ready, and what becomes ready by then.

    Attributes:
        complaints: What callbacks raised and tasks were told of.
    """

    def __init__(self) -> None:
        self.complaints: list[dict[str, Any]] = []
        self._now_s = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0

    def begin(self) -> None:
        """Be the running loop of this thread, until `end`."""
        asyncio._set_running_loop(self)

    def end(self) -> None:
        """Leave the thread as it was."""
        asyncio._set_running_loop(None)

    def turn(self, seconds: float = 0.0) -> None:
        """Let time pass and everything happen that is due by then."""
        end_s = self._now_s + seconds
        calls = 0
        while True:
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
                    calls += 1
                    if calls > MAX_CALLS:
                        raise RecursionError("the loop runs in circles")
            if not self._timers or self._timers[0][0] > end_s:
                break
            due_s, _, timer = heappop(self._timers)
            self._now_s = max(self._now_s, due_s)
            self._ready.append(timer)
        self._now_s = end_s

    def time(self) -> float:
        return self._now_s

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.complaints.append(context)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Be told by a timer; it is passed over when it is due."""
