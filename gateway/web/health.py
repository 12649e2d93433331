"""Is the process alive, is it ready, what has it been doing."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from gateway.errors import UnavailableError
from gateway.hub import Hub

DATABASE_TIMEOUT_S = 2.0
ANSWER_LIFE_S = 0.5
"""So old may be what is known of the database: anybody may ask, as often as they like."""


class Health:
    """
    The routes of operators and load balancers.

    Args:
        can_do_deaf: Whether new clients may be sent here while doorbells are not
            heard.  A Redis that is away makes all gateways deaf at once, and they
            deliver by looking.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        listening: Callable[[], bool],
        can_do_deaf: bool,
        ping: Callable[[], Awaitable[None]],
        scrape: Callable[[], Awaitable[bytes]],
    ) -> None:
        self._hub = hub
        self._listening = listening
        self._can_do_deaf = can_do_deaf
        self._ping = ping
        self._scrape = scrape
        self._asking: asyncio.Task[bool] | None = None
        self._answered_s = -math.inf

    async def alive(self, _: web.Request) -> web.Response:
        """Answer while the process lives; never a reason to restart it."""
        return web.json_response({"alive": True})

    async def ready(self, _: web.Request) -> web.Response:
        """Say whether new clients should be sent here, and if not, why."""
        checks = {
            "listener": self._listening(),
            "database": await self._reaches_database(),
            "not_draining": not self._hub.draining,
        }
        needed = checks | {"listener": checks["listener"] or self._can_do_deaf}
        ready = all(needed.values())
        return web.Response(
            status=200 if ready else 503,
            body=msgspec.json.encode({"ready": ready, "checks": checks}),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def metrics(self, _: web.Request) -> web.Response:
        """Give every metric in Prometheus' text format."""
        body = await self._scrape()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _reaches_database(self) -> bool:
        asked = self._asking
        if asked is None or (
            asked.done() and time.monotonic() - self._answered_s > ANSWER_LIFE_S
        ):
            asked = self._asking = asyncio.create_task(self._ask_database())
        # Whoever leaves meanwhile takes the question from nobody.
        return await asyncio.shield(asked)

    async def _ask_database(self) -> bool:
        try:
            async with asyncio.timeout(DATABASE_TIMEOUT_S):
                await self._ping()
        except (UnavailableError, TimeoutError):
            return False
        finally:
            self._answered_s = time.monotonic()
        return True
