"""Bounded pieces of work, again and again, and a rest when there is no more."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gateway.errors import UnavailableError


async def sweep_until(
    stop: asyncio.Event,
    sweep: Callable[[], Awaitable[int]],
    *,
    full: int,
    interval_s: float,
    log: logging.Logger,
) -> None:
    """
    Sweep until told to stop; a database that is away is waited out.

    Args:
        sweep: Does one piece of work and says how much it was.
        full: So much means that there may be more, and no rest is due.
    """
    while not stop.is_set():
        try:
            more = await sweep() == full
        except UnavailableError as error:
            log.warning("cannot sweep: %s", error)
            more = False
        if not more:
            try:
                async with asyncio.timeout(interval_s):
                    await stop.wait()
            except TimeoutError:
                continue
