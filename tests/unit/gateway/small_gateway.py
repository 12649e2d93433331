"""
A gateway and a storage of one file's size, speaking the contract, for clients.

Each watch takes the next script of `scripts`; without one it is served as the
real gateway would: what is newer than the cursor, then what comes, then bye.
"""

import asyncio
import hashlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.model import FileError, FileState, Phase, Playback, Status
from gateway.protocol import problem, sse

API_KEY = "local"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

HELLO = sse.hello(20)
DROP = "drop"


def state(file_id: str = "f-1", seq: int = 1, **changes: object) -> FileState:
    """A state as of `seq`, waiting for its upload unless said otherwise."""
    values: dict[str, object] = {
        "status": Status.AWAITING_UPLOAD,
        "name": "clip.mp4",
        "content_type": "video/mp4",
        "size": 10,
        "owner": None,
        "metadata": {},
        "created_at": NOW,
        "updated_at": NOW + timedelta(seconds=seq),
    }
    return FileState(id=file_id, seq=seq, **values | changes)


def frame(one: FileState) -> bytes:
    """The state as an event of a stream."""
    return sse.event(one.seq, msgspec.json.encode(one))


def playing(base: FileState) -> list[FileState]:
    """The rest of a story that ends well."""
    replace = msgspec.structs.replace
    url = f"http://cdn.test/video/hls/{base.id}/master.m3u8"
    return [
        replace(base, seq=2, status=Status.UPLOADED),
        replace(base, seq=3, status=Status.CONVERTING, phase=Phase.PROBING),
        replace(
            base, seq=4, status=Status.CONVERTING, phase=Phase.TRANSCODING, percent=42
        ),
        replace(
            base,
            seq=5,
            status=Status.PLAYABLE,
            percent=100,
            playback=Playback(hls_url=url, duration_ms=30_500),
        ),
    ]


def failing(base: FileState) -> list[FileState]:
    """The rest of a story that ends badly."""
    error = FileError(code="not_a_video", message="There is no video in this file.")
    return [
        msgspec.structs.replace(base, seq=2, status=Status.FAILED, error=error),
    ]


@dataclass
class SmallGateway:
    """What it was asked, and what it shall answer."""

    url: str = ""
    scripts: deque[list[bytes | str | int | web.Response]] = field(
        default_factory=deque
    )
    put_answers: deque[object] = field(default_factory=deque)
    story: Callable[[FileState], list[FileState]] = playing
    sender: str = "mediaconvert"
    page_events: int = 100
    states: dict[str, list[FileState]] = field(default_factory=dict)
    registrations: list[dict[str, object]] = field(default_factory=list)
    cursors: list[str | None] = field(default_factory=list)
    questions: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    puts: list[tuple[str, dict[str, str], int, str]] = field(default_factory=list)
    stored: set[str] = field(default_factory=set)
    putting: int = 0
    most_putting: int = 0
    changed: dict[str, asyncio.Event] = field(
        default_factory=lambda: defaultdict(asyncio.Event)
    )

    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, *newer: FileState) -> None:
        """Let these have happened, and wake who watches."""
        for one in newer:
            self.states.setdefault(one.id, []).append(one)
            self.changed.pop(one.id, asyncio.Event()).set()

    async def register(self, request: web.Request) -> web.Response:
        said = msgspec.json.decode(await request.read())
        self.registrations.append(said)
        self.authorizations.append(request.headers.get("Authorization"))
        if request.headers.get("Authorization") != f"Bearer {API_KEY}":
            return refusal("unauthorized", 401, "the API key is not accepted")
        if not said["content_type"].startswith(("video/", "application/octet-stream")):
            detail = f"content_type: {said['content_type']} is not a video"
            return refusal("invalid", 422, detail)
        file_id = f"f-{len(self.registrations)}"
        first = state(
            file_id,
            name=said["name"],
            content_type=said["content_type"],
            size=said["size"],
            owner=said.get("owner"),
        )
        self.add(first)
        url = f"{self.url}bucket/{file_id}.mp4?X-Sig=a%2Fb%20c%2B&tag={file_id}"
        answer = {
            "file": first,
            "upload": {
                "method": "PUT",
                "url": url,
                "headers": {
                    "Content-Type": said["content_type"],
                    "If-None-Match": "*",
                    "x-amz-tagging": f"file_id={file_id}",
                },
                "expires_at": NOW,
            },
            "watch": {
                "events_url": f"{self.url}v1/files/{file_id}/events",
                "token": "t",
                "expires_at": NOW,
                "after": 1,
            },
        }
        return web.Response(
            body=msgspec.json.encode(answer),
            status=201,
            content_type="application/json",
        )

    async def put(self, request: web.Request) -> web.Response:
        answer = self.put_answers.popleft() if self.put_answers else 200
        self.putting += 1
        self.most_putting = max(self.most_putting, self.putting)
        try:
            return await self._put(request, answer)
        finally:
            self.putting -= 1

    async def _put(self, request: web.Request, answer: object) -> web.Response:
        if request.path in self.stored:
            return _storage_error(412, "PreconditionFailed", "It is there already")
        if answer == DROP:
            await request.content.readany()
            request.transport.abort()
        if answer == 403:
            return _storage_error(403, "AccessDenied", "Request has expired")
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        self.puts.append(
            (request.raw_path, dict(request.headers), size, digest.hexdigest())
        )
        if answer not in {200, "stored, then drop"}:
            code = "RequestTimeout" if answer == 400 else "SlowDown"
            return _storage_error(answer, code, "Please reduce your rate")
        self.stored.add(request.path)
        file_id = request.path.rpartition("/")[2].partition(".")[0]
        self.add(*self.story(self.states[file_id][0]))
        if answer == "stored, then drop":
            request.transport.abort()
        return web.Response()

    async def file(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("Authorization"))
        states = self.states.get(request.match_info["id"])
        if not states:
            return refusal("not_found", 404, "there is no such file")
        return web.Response(
            body=msgspec.json.encode(states[-1]), content_type="application/json"
        )

    async def history(self, request: web.Request) -> web.Response:
        states = self.states.get(request.match_info["id"])
        if not states:
            return refusal("not_found", 404, "there is no such file")
        events = [
            {
                "seq": one.seq,
                "type": "registered" if one.seq == 1 else "report",
                "sender": None if one.seq == 1 else self.sender,
                "occurred_at": NOW + timedelta(seconds=one.seq - 1.5),
                "recorded_at": NOW + timedelta(seconds=one.seq),
                "state": one,
            }
            for one in states
        ]
        after = int(request.query["after"])
        page = [one for one in events if one["seq"] > after][: self.page_events]
        last = page[-1]["seq"] if page else states[-1].seq
        body = msgspec.json.encode({"file": states[-1], "events": page, "after": last})
        return web.Response(body=body, content_type="application/json")

    async def events(self, request: web.Request) -> web.StreamResponse:
        if "wait" in request.query:
            return self._now(request)
        self.cursors.append(request.headers.get("Last-Event-ID"))
        self.asked.set()
        self.authorizations.append(request.headers.get("Authorization"))
        if self.scripts:
            return await self._scripted(request, self.scripts.popleft())
        file_id, cursor = request.match_info["id"], int(self.cursors[-1] or 0)
        response = await _opened(request)
        while True:
            changed = self.changed[file_id]
            for one in self.states[file_id]:
                if one.seq > cursor:
                    await response.write(frame(one))
                    cursor = one.seq
            if self.states[file_id][-1].status.terminal:
                await response.write(sse.bye("final"))
                return response
            await changed.wait()

    def _now(self, request: web.Request) -> web.Response:
        self.questions.append(dict(request.query))
        states = self.states.get(request.match_info["id"], [])
        after = int(request.query.get("after", 0))
        answer = {
            "events": [one for one in states if one.seq > after],
            "after": states[-1].seq if states else after,
            "final": bool(states) and states[-1].status.terminal,
        }
        return web.Response(
            body=msgspec.json.encode(answer), content_type="application/json"
        )

    async def _scripted(
        self, request: web.Request, script: list[bytes | str | int | web.Response]
    ) -> web.StreamResponse:
        if isinstance(script[0], web.Response):
            return script[0]
        if isinstance(script[0], int):
            return web.Response(status=script[0], headers={"Location": "/elsewhere"})
        response = await _prepared(request)
        for step in script:
            if step == DROP:
                # Not an abort: that may take back what was just written.
                request.transport.close()
                break
            await response.write(step)
        return response


@asynccontextmanager
async def small_gateway(port: int = 0) -> AsyncIterator[SmallGateway]:
    """Serve one on loopback, on a free port unless it is told which."""
    small = SmallGateway()
    app = web.Application(client_max_size=0)
    app.router.add_post("/v1/files", small.register)
    app.router.add_get("/v1/files/{id}", small.file)
    app.router.add_get("/v1/files/{id}/history", small.history)
    app.router.add_get("/v1/files/{id}/events", small.events)
    app.router.add_put("/bucket/{key}", small.put)
    async with TestServer(app, port=port) as server:
        small.url = str(server.make_url("/"))
        yield small


async def _opened(request: web.Request) -> web.StreamResponse:
    response = await _prepared(request)
    await response.write(HELLO)
    return response


async def _prepared(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream; charset=utf-8"}
    )
    await response.prepare(request)
    return response


def refusal(code: str, status: int, detail: str) -> web.Response:
    """Refuse as a gateway does."""
    return web.Response(
        body=problem.encode(code, status, detail),
        status=status,
        content_type=problem.CONTENT_TYPE,
    )


def _storage_error(status: int, code: str, text: str) -> web.Response:
    return web.Response(
        text=f"<Error><Code>{code}</Code><Message>{text}</Message></Error>",
        status=status,
        content_type="application/xml",
    )
