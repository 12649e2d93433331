"""
Server-Sent Events: one file, or many on one connection.

A stream's handler holds its connection and takes one reading at a time: while
it writes, its legs are stalled, and when the socket has taken the bytes they
are read forward from their cursors.  Nothing is queued.

Browsers give up on an EventSource that is answered with anything but 200, so
whoever is refused for now gets ``200``, ``retry:``, a bye and a close.
"""

import asyncio
import random
import time
from collections.abc import Mapping

from aiohttp import web
from prometheus_client import Counter

from gateway.auth import Viewer
from gateway.config import Config
from gateway.errors import InvalidError, NotFoundError, UnavailableError
from gateway.hub import Hub, Subscriber
from gateway.model import FILE_ID, FileId, Reading
from gateway.protocol import cursor, sse
from gateway.telemetry import Metrics
from gateway.web.access import Access

MAX_FILES = 100
RETRY_MS = 2000
FIRST_READING_TIMEOUT_S = 10.0

_HEAD = {
    "Content-Type": sse.CONTENT_TYPE,
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


class _Leg(Subscriber):
    """One file of one stream."""

    __slots__ = ("_stream", "final", "first", "reading")

    def __init__(self, file_id: FileId, after: int, stream: "_Stream") -> None:
        super().__init__(file_id, after)
        self._stream = stream
        self.first: asyncio.Future[Reading | None] = (
            asyncio.get_running_loop().create_future()
        )
        self.reading: Reading | None = None
        self.final = False

    def deliver(self, reading: Reading | None) -> None:
        self.stalled = True
        self.reading = reading
        if not self.first.done():
            self.first.set_result(reading)
        self._stream.wake.set()

    def end(self, reason: str) -> None:
        self._stream.reason = self._stream.reason or reason
        if not self.first.done():
            self.first.set_exception(UnavailableError("no reading yet"))
        self._stream.wake.set()

    def take(self, *, numbered: bool) -> list[bytes]:
        """Frame what was read, and move the cursor."""
        reading, self.reading = self.reading, None
        if reading is None:
            return []
        frames = [
            sse.event(event.seq, event.data) if numbered else sse.unnumbered(event.data)
            for event in reading.events
        ]
        if reading.reset and numbered:
            frames.insert(0, sse.reset(reading.reset))
        self.cursor = reading.events[-1].seq if reading.events else reading.head
        self.final = reading.final
        return frames


class _Stream:
    """
    One SSE connection.

    Attributes:
        reason: Why it must end, once it must.
        wake: Set when there is something to write, or to end for.
    """

    def __init__(
        self,
        cursors: Mapping[FileId, int],
        *,
        numbered: bool,
        ends_at: float,
        delivered: Counter,
    ) -> None:
        self.reason: str | None = None
        self.wake = asyncio.Event()
        self.legs = [_Leg(file_id, after, self) for file_id, after in cursors.items()]
        self._numbered = numbered
        self._ends_at = ends_at
        self._delivered = delivered

    async def first_readings(self) -> list[Reading | None]:
        """
        Wait for the state of every file.

        Raises:
            UnavailableError: The table cannot be read now.
        """
        try:
            async with asyncio.timeout(FIRST_READING_TIMEOUT_S):
                return [await leg.first for leg in self.legs]
        except TimeoutError:
            raise UnavailableError("the table cannot be read now") from None

    async def follow(
        self, response: web.StreamResponse, hub: Hub, *, heartbeat_s: float
    ) -> str:
        """Write events and heartbeats until there is a reason to end."""
        beat_at = time.monotonic() + heartbeat_s
        while True:
            self.wake.clear()
            await self._flush(response, hub)
            if all(leg.final for leg in self.legs):
                return "final"
            if self.reason:
                return self.reason
            due_at = min(beat_at, self._ends_at)
            try:
                async with asyncio.timeout(due_at - time.monotonic()):
                    await self.wake.wait()
            except TimeoutError:
                if time.monotonic() >= self._ends_at:
                    return "age"
                await response.write(sse.HEARTBEAT)
                beat_at += heartbeat_s

    async def _flush(self, response: web.StreamResponse, hub: Hub) -> None:
        for leg in self.legs:
            frames = leg.take(numbered=self._numbered)
            if frames:
                await response.write(b"".join(frames))
                self._delivered.inc(len(frames))
            if leg.stalled:
                hub.resume(leg)


class Streams:
    """The SSE routes."""

    def __init__(
        self, config: Config, hub: Hub, access: Access, metrics: Metrics
    ) -> None:
        self._config = config
        self._hub = hub
        self._access = access
        self._metrics = metrics

    async def one(self, request: web.Request) -> web.StreamResponse:
        """Follow one file from a cursor."""
        viewer = self._access.viewer(request)
        after = cursor.from_request(request.headers, request.query)
        file_id = FileId(request.match_info["file_id"])
        return await self._serve(request, viewer, {file_id: after}, numbered=True)

    async def many(self, request: web.Request) -> web.StreamResponse:
        """
        Follow many files, each from its current state.

        Raises:
            InvalidError: No file is named, or more than `MAX_FILES`.
        """
        viewer = self._access.viewer(request)
        file_ids = list(dict.fromkeys(request.query.getall("file", [])))
        if not 1 <= len(file_ids) <= MAX_FILES:
            raise InvalidError("file", f"is not given 1 to {MAX_FILES} times")
        if not all(map(FILE_ID.fullmatch, file_ids)):
            raise NotFoundError
        cursors = {FileId(file_id): cursor.CURRENT for file_id in file_ids}
        return await self._serve(request, viewer, cursors, numbered=False)

    async def _serve(
        self,
        request: web.Request,
        viewer: Viewer,
        cursors: Mapping[FileId, int],
        *,
        numbered: bool,
    ) -> web.StreamResponse:
        try:
            with self._access.waiting(request):
                return await self._held(request, viewer, cursors, numbered=numbered)
        except UnavailableError:
            return self._refusal()

    async def _held(
        self,
        request: web.Request,
        viewer: Viewer,
        cursors: Mapping[FileId, int],
        *,
        numbered: bool,
    ) -> web.StreamResponse:
        ends_at, at_end = self._planned_end(viewer)
        stream = _Stream(
            cursors,
            numbered=numbered,
            ends_at=ends_at,
            delivered=self._metrics.events.labels("sse"),
        )
        with self._hub.joined(*stream.legs):
            readings = await stream.first_readings()
            for leg, reading in zip(stream.legs, readings, strict=True):
                if reading is None or not viewer.may_see(leg.file_id, reading.owner):
                    raise NotFoundError
                if reading.reset:
                    self._metrics.resets.inc()
                if numbered and reading.final and not reading.events:
                    return web.Response(status=204)
            response = web.StreamResponse(headers=_HEAD)
            response.force_close()
            await response.prepare(request)
            with self._metrics.subscribers.labels("sse").track_inprogress():
                await response.write(sse.hello(RETRY_MS))
                reason = await stream.follow(
                    response, self._hub, heartbeat_s=self._config.heartbeat_seconds
                )
            await self._say_bye(response, at_end if reason == "age" else reason)
        return response

    def _planned_end(self, viewer: Viewer) -> tuple[float, str]:
        """When a stream ends by itself, and why; ages are spread by a fifth."""
        max_age_s = self._config.stream_max_age_seconds
        age_s = max_age_s * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
        if viewer.expires_at is not None and viewer.expires_at - time.time() < age_s:
            return time.monotonic() + viewer.expires_at - time.time(), "token"
        return time.monotonic() + age_s, "age"

    async def _say_bye(self, response: web.StreamResponse, reason: str) -> None:
        self._metrics.byes.labels(reason).inc()
        spread_ms = _spread_ms() if reason in {"drain", "refused"} else None
        await response.write(sse.bye(reason, retry_ms=spread_ms))
        await response.write_eof()

    def _refusal(self) -> web.Response:
        self._metrics.byes.labels("refused").inc()
        body = sse.hello(_spread_ms()) + sse.bye("refused")
        response = web.Response(body=body, headers=_HEAD)
        response.force_close()
        return response


def _spread_ms() -> int:
    """Pick a reconnect delay that keeps a herd apart."""
    return random.randint(1000, 5000)  # noqa: S311 - spreads load, guards nothing
