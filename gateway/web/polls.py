"""
Waiting without a stream: the blocking GET and the long-poll.

Both are a subscriber that is answered once, from the same cursor and the same
readings as a stream.
"""

import asyncio

from aiohttp import web

from gateway.config import Config
from gateway.errors import NotFoundError, UnavailableError
from gateway.hub import Hub, Subscriber
from gateway.model import FileId, Reading
from gateway.protocol import cursor, longpoll
from gateway.telemetry import Metrics
from gateway.web.access import Access

FIRST_READING_TIMEOUT_S = 10.0


class _Poll(Subscriber):
    """
    A client that is answered once.

    Attributes:
        first: What the table held when it came.
        answer: The first reading with something in it, if it must wait.
    """

    __slots__ = ("answer", "first")

    def __init__(self, file_id: FileId, after: int) -> None:
        super().__init__(file_id, after)
        loop = asyncio.get_running_loop()
        self.first: asyncio.Future[Reading | None] = loop.create_future()
        self.answer: asyncio.Future[Reading | None] = loop.create_future()

    def deliver(self, reading: Reading | None) -> None:
        if not self.first.done():
            self.first.set_result(reading)
        if reading is None or reading.events or reading.final:
            self.stalled = True
            if not self.answer.done():
                self.answer.set_result(reading)

    def end(self, reason: str) -> None:  # noqa: ARG002 - a poll has no bye to put it in
        if not self.first.done():
            self.first.set_exception(UnavailableError("the table cannot be read now"))
        elif not self.answer.done():
            self.answer.set_result(None)


class Polls:
    """The routes that answer once."""

    def __init__(
        self, config: Config, hub: Hub, access: Access, metrics: Metrics
    ) -> None:
        self._config = config
        self._hub = hub
        self._access = access
        self._metrics = metrics

    async def file(self, request: web.Request) -> web.Response:
        """
        Show the current state, or wait for a newer one.

        Raises:
            InvalidError: ``wait`` is not seconds.
        """
        wait_s = self._wait_s(request)
        after = cursor.parse(request.query.get("after"))
        if "If-None-Match" in request.headers:
            after = cursor.from_etag(request.headers["If-None-Match"])
        reading = await self._read(request, after, wait_s or 0)
        if reading.events and reading.events[-1].seq < reading.head:
            reading = await self._read(request, cursor.CURRENT, 0)
        headers = {"ETag": cursor.etag(reading.head), "Cache-Control": "no-store"}
        if wait_s is not None and "wait" not in request.query:
            headers["Preference-Applied"] = f"wait={wait_s}"
        if not reading.events:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=reading.events[-1].data,
            content_type="application/json",
            charset="utf-8",
            headers=headers,
        )

    async def events(self, request: web.Request) -> web.Response:
        """
        Long-poll: every retained event after the cursor, or none after the wait.

        Raises:
            InvalidError: ``wait`` is not seconds.
        """
        wait_s = self._wait_s(request)
        if wait_s is None:
            wait_s = min(longpoll.DEFAULT_WAIT_S, self._config.max_wait_seconds)
        after = cursor.from_request(request.headers, request.query)
        reading = await self._read(request, after, wait_s)
        if reading.reset:
            self._metrics.resets.inc()
        self._metrics.events.labels("poll").inc(len(reading.events))
        body = longpoll.encode(
            (event.data for event in reading.events),
            after=reading.events[-1].seq if reading.events else reading.head,
            final=reading.final,
            reset=reading.reset,
        )
        return web.Response(
            body=body,
            content_type="application/json",
            charset="utf-8",
            headers={"Cache-Control": "no-store"},
        )

    def _wait_s(self, request: web.Request) -> int | None:
        return longpoll.wait_s(
            request.query.get("wait"),
            request.headers.get("Prefer"),
            max_s=self._config.max_wait_seconds,
        )

    async def _read(self, request: web.Request, after: int, wait_s: int) -> Reading:
        """Read beyond a cursor; if nothing is there, wait for something to be."""
        viewer = self._access.viewer(request)
        poll = _Poll(FileId(request.match_info["file_id"]), after)
        with self._access.waiting(request), self._hub.joined(poll):
            first = await _first_reading(poll)
            if first is None or not viewer.may_see(poll.file_id, first.owner):
                raise NotFoundError
            if first.events or first.final or not wait_s:
                return first
            with self._metrics.subscribers.labels("poll").track_inprogress():
                try:
                    async with asyncio.timeout(wait_s):
                        return await poll.answer or first
                except TimeoutError:
                    return first


async def _first_reading(poll: _Poll) -> Reading | None:
    try:
        async with asyncio.timeout(FIRST_READING_TIMEOUT_S):
            return await poll.first
    except TimeoutError:
        raise UnavailableError("the table cannot be read now") from None
