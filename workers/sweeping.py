"""Bounded pieces of work, again and again, and a rest when there is no more."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

from gateway.errors import UnavailableError
from gateway.store.pool import why


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
        sweep: Does one piece of work and says how much it was.  It is cancelled
            in the middle when the time has come to stop.
        full: So much means that there may be more, and no rest is due.
        interval_s: Rest; a fifth more or less, so that workers fall out of step.
    """

    async def work() -> None:
        while True:
            try:
                more = await sweep() == full
            except UnavailableError as error:
                log.warning("cannot sweep: %s", why(error))
                more = False
            if not more:
                await asyncio.sleep(interval_s * random.uniform(0.8, 1.2))  # noqa: S311 - no secret

    working = asyncio.ensure_future(work())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopped), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        stopped.cancel()
        await asyncio.wait((working, stopped))
