"""
A small server that speaks the contract, and a browser before it, for page tests.

The test plays the gateway's part: `Stage.report` is what a Lambda would have
caused, and the fault switches are what proxies and restarts do.  Everything is
real HTTP on two origins, so CORS, CSP and EventSource are the browser's own.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Dialog, Page, async_playwright

STATIC = Path(__file__).parents[2] / "gateway" / "static"
KEY = "local"
FINAL = {"playable", "failed", "canceled", "expired"}
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "content-type, x-amz-tagging, if-none-match",
    "Access-Control-Allow-Methods": "GET, PUT",
    "Access-Control-Expose-Headers": "ETag",
}


def problem(status: int, code: str, **more: str) -> web.Response:
    """A problem+json answer."""
    body = {"type": f"urn:reelready:problem:{code}", "title": code, **more}
    return web.json_response(
        body, status=status, content_type="application/problem+json"
    )


@dataclass
class StagedFile:
    """One file: its events so far, and who is told about the next."""

    events: list[dict[str, Any]]
    token: str
    received: bytes | None = None
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def state(self) -> dict[str, Any]:
        return self.events[-1]


class Stage:
    """
    The gateway and the storage of one test.

    Attributes:
        sse_status: What the events route answers to an EventSource.
        in_our_place: Status and body that a proxy answers watches with, if any.
        refusing: Nobody may wait now; whoever only asks is told.
        database_away: Nobody is told, either.
        mute: Streams open and say nothing, as behind a buffering proxy.
        mute_s: Seconds until such a proxy cuts a stream; None never does.
        heartbeat_s: Seconds between heartbeats; None sends none.
        storage_status: What the storage answers to a PUT, with `storage_body`.
        hold_uploads: The storage reads an upload only while this is set.
    """

    def __init__(self) -> None:
        self.files: dict[str, StagedFile] = {}
        self.requests: list[str] = []
        self.settings: dict[str, Any] = {
            "api_key": KEY,
            "hls_js": None,
            "max_upload_bytes": 10**9,
        }
        self.sse_status = 200
        self.in_our_place: tuple[int, str] | None = None
        self.refusing = False
        self.database_away = False
        self.mute = False
        self.mute_s: float | None = None
        self.heartbeat_s: float | None = 15
        self.storage_status = 200
        self.storage_body = ""
        self.refuse_files: web.Response | None = None
        self.may_receive = asyncio.Event()
        self.may_receive.set()
        self.seen = asyncio.Condition()
        self.drop_streams = asyncio.Event()
        self.open_streams = 0
        self.most_streams = 0
        self.heartbeats = 0
        self.origin = ""
        self.storage_origin = ""
        self._began = datetime.now(UTC) - timedelta(seconds=30)
        self._reports = 0

    async def report(self, file_id: str, **changes: Any) -> None:
        """Make the next event of a file; terminal ones end its streams."""
        staged = self.files[file_id]
        await self._append(staged, changes)

    async def make_file(self, name: str) -> str:
        """A file that no page announced; its id."""
        body = {"name": name, "content_type": "video/mp4", "size": 1}
        return await self._announce(body)

    def streams_asked(self) -> int:
        """How many EventSource requests came."""
        return sum("token=" in request for request in self.requests)

    async def wait(self, true: Callable[[], bool]) -> None:
        """Until something that requests, streams or heartbeats change is true."""
        async with asyncio.timeout(20), self.seen:
            await self.seen.wait_for(true)

    async def wait_seen(self, prefix: str) -> None:
        """Until a request beginning with `prefix` (``GET /x``) came."""
        await self.wait(lambda: any(r.startswith(prefix) for r in self.requests))

    async def wait_file(self, count: int = 1) -> str:
        """Until `count` files were announced; the newest one's id."""
        await self.wait(lambda: len(self.files) >= count)
        return list(self.files)[-1]

    async def restart_streams(self) -> None:
        """Cut every open stream, without a goodbye."""
        self.drop_streams.set()
        self.drop_streams = asyncio.Event()
        for staged in self.files.values():
            async with staged.changed:
                staged.changed.notify_all()

    async def _append(self, staged: StagedFile, changes: dict[str, Any]) -> None:
        before = staged.events[-1] if staged.events else {}
        # Seven seconds from report to report, so that what a step took is known.
        self._reports += 1
        now = self._began + timedelta(seconds=7 * self._reports)
        state = {**before, **changes, "seq": len(staged.events) + 1}
        state["updated_at"] = now.isoformat().replace("+00:00", "Z")
        state.setdefault("created_at", state["updated_at"])
        async with staged.changed:
            staged.events.append(state)
            staged.changed.notify_all()

    # -- the gateway

    def gateway(self) -> web.Application:
        app = web.Application(middlewares=[self._record])
        app.router.add_get("/", self._page)
        app.router.add_get("/static/{name}", self._static)
        app.router.add_get("/page.json", self._page_json)
        app.router.add_post("/v1/files", self._create)
        app.router.add_get("/v1/files/{id}/events", self._events)
        return app

    @web.middleware
    async def _record(self, request: web.Request, handler: Any) -> web.StreamResponse:
        async with self.seen:
            self.requests.append(f"{request.method} {request.path_qs}")
            self.seen.notify_all()
        if self.in_our_place is not None and request.path.endswith("/events"):
            status, text = self.in_our_place
            return web.Response(status=status, text=text)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _page(self, _: web.Request) -> web.Response:
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; "
            f"img-src 'self' data:; media-src 'self' blob: {self.storage_origin}; "
            f"connect-src 'self' {self.storage_origin}; worker-src blob:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return web.Response(
            text=(STATIC / "index.html").read_text("utf-8"),
            content_type="text/html",
            headers={"Content-Security-Policy": policy},
        )

    async def _static(self, request: web.Request) -> web.Response:
        path = STATIC / Path(request.match_info["name"]).name
        return web.Response(
            body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8"
        )

    async def _page_json(self, _: web.Request) -> web.Response:
        return web.json_response(self.settings)

    async def _create(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bearer {KEY}":
            return problem(401, "unauthorized", detail="the API key is not accepted")
        if self.refuse_files is not None:
            return self.refuse_files
        body = await request.json()
        file_id = await self._announce(body)
        staged = self.files[file_id]
        upload = {
            "method": "PUT",
            "url": f"{self.storage_origin}/bucket/{file_id}",
            "headers": {
                "Content-Type": body["content_type"],
                "Content-Length": str(body["size"]),
                "x-amz-tagging": f"file_id={file_id}",
                "If-None-Match": "*",
            },
        }
        events_url = f"{self.origin}/v1/files/{file_id}/events"
        watch = {"events_url": events_url, "token": staged.token, "after": 1}
        answer = {"file": staged.state, "upload": upload, "watch": watch}
        return web.json_response(answer, status=201)

    async def _announce(self, body: dict[str, Any]) -> str:
        file_id = f"0199-{len(self.files) + 1}"
        staged = StagedFile(events=[], token=f"token-{file_id}")
        await self._append(staged, _new_file(file_id, body))
        async with self.seen:
            self.files[file_id] = staged
            self.seen.notify_all()
        return file_id

    async def _count(self, streams: int = 0, heartbeats: int = 0) -> None:
        async with self.seen:
            self.open_streams += streams
            self.most_streams = max(self.most_streams, self.open_streams)
            self.heartbeats += heartbeats
            self.seen.notify_all()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        staged = self.files.get(request.match_info["id"])
        header = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if staged is None:
            return problem(404, "not_found")
        if staged.token not in {header, request.query.get("token")}:
            return problem(401, "unauthorized")
        cursor = request.headers.get("Last-Event-ID") or request.query.get("after")
        after = 0 if cursor is None else int(cursor)
        if "text/event-stream" not in request.headers.get("Accept", ""):
            return await self._poll(request, staged, after, fresh=cursor is None)
        if self.sse_status != 200:
            return web.Response(status=self.sse_status)
        if staged.state["status"] in FINAL and after == len(staged.events):
            return web.Response(status=204)
        await self._count(streams=1)
        try:
            return await self._stream(request, staged, after)
        finally:
            await asyncio.shield(self._count(streams=-1))

    async def _poll(
        self, request: web.Request, staged: StagedFile, after: int, *, fresh: bool
    ) -> web.Response:
        wait = float(request.query.get("wait", 25))
        if self.database_away or (wait and self.refusing):
            return problem(503, "unavailable")
        if not fresh and wait and staged.state["status"] not in FINAL:
            async with staged.changed:
                try:
                    async with asyncio.timeout(wait):
                        await staged.changed.wait_for(
                            lambda: len(staged.events) > after
                        )
                except TimeoutError:
                    pass
        events = staged.events[-1:] if fresh else staged.events[after:]
        final = staged.state["status"] in FINAL
        answer = {"events": events, "after": len(staged.events), "final": final}
        return web.json_response(answer)

    async def _stream(
        self, request: web.Request, staged: StagedFile, after: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store, no-transform",
            }
        )
        await response.prepare(request)
        dropped = self.drop_streams
        if self.mute:
            await self._until(staged, dropped.is_set, self.mute_s)
            return response
        await response.write(b"retry: 100\n: reelready\n\n")
        if self.refusing:
            await response.write(b'event: bye\ndata: {"reason": "refused"}\n\n')
            return response
        if after > len(staged.events):
            await response.write(
                b'event: reset\ndata: {"reason": "unknown_cursor"}\n\n'
            )
            after = len(staged.events) - 1
        while not dropped.is_set():
            for event in staged.events[after:]:
                data = json.dumps(event, ensure_ascii=False)
                await response.write(f"id: {event['seq']}\ndata: {data}\n\n".encode())
            after = len(staged.events)
            if staged.state["status"] in FINAL:
                await response.write(b'event: bye\ndata: {"reason": "final"}\n\n')
                return response
            news = partial(_news, staged, after, dropped)
            if not await self._until(staged, news, self.heartbeat_s):
                await response.write(b"event: hb\ndata:\n\n")
                await self._count(heartbeats=1)
        assert request.transport is not None
        request.transport.abort()
        return response

    @staticmethod
    async def _until(staged: StagedFile, true: Any, wait_s: float | None) -> bool:
        async with staged.changed:
            try:
                async with asyncio.timeout(wait_s):
                    await staged.changed.wait_for(true)
            except TimeoutError:
                return False
        return True

    # -- the storage

    def storage(self) -> web.Application:
        app = web.Application(middlewares=[self._record], client_max_size=2**30)
        app.router.add_put("/bucket/{id}", self._put)
        app.router.add_options("/bucket/{id}", self._preflight)
        return app

    async def _preflight(self, _: web.Request) -> web.Response:
        return web.Response(status=204, headers=CORS)

    async def _put(self, request: web.Request) -> web.Response:
        await self.may_receive.wait()
        body = await request.read()
        if self.storage_status == 200:
            file_id = request.match_info["id"]
            assert request.headers["x-amz-tagging"] == f"file_id={file_id}"
            self.files[file_id].received = body
        return web.Response(
            status=self.storage_status, text=self.storage_body, headers=CORS
        )


def _news(staged: StagedFile, after: int, dropped: asyncio.Event) -> bool:
    return dropped.is_set() or len(staged.events) > after


def _new_file(file_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": file_id,
        "status": "awaiting_upload",
        "name": body["name"],
        "content_type": body["content_type"],
        "size": body["size"],
        "owner": None,
        "metadata": {},
        "attempt": 1,
        "phase": None,
        "percent": None,
        "playback": None,
        "error": None,
    }


@asynccontextmanager
async def running_stage() -> AsyncIterator[Stage]:
    """A stage on two free ports."""
    stage = Stage()
    gateway = TestServer(stage.gateway(), host="127.0.0.1")
    storage = TestServer(stage.storage(), host="127.0.0.1")
    await storage.start_server(shutdown_timeout=0.1)
    await gateway.start_server(shutdown_timeout=0.1)
    stage.origin = f"http://127.0.0.1:{gateway.port}"
    stage.storage_origin = f"http://127.0.0.1:{storage.port}"
    try:
        yield stage
    finally:
        stage.may_receive.set()
        await stage.restart_streams()
        await gateway.close()
        await storage.close()


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """The machine's own Chromium."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    assert executable is not None, "these tests need Chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=CHROMIUM_ARGS, headless=True
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visit:
    """A page of the stage, with all that its console and network said."""

    page: Page
    stage: Stage
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    async def open(self, path: str = "/") -> None:
        await self.page.goto(self.stage.origin + path)
        await self.page.wait_for_selector("html[data-started]")

    async def tune(self, **tuning: float) -> None:
        """Change what reelready.js lets one change."""
        await self.page.evaluate(
            """async (changes) => {
              const { tuning } = await import("/static/reelready.js");
              Object.assign(tuning, changes);
            }""",
            tuning,
        )

    async def on_dialog(self, dialog: Dialog) -> None:
        """Leave when asked whether to leave; every other dialog is a complaint."""
        if dialog.type != "beforeunload":
            self.complaints.append(f"dialog {dialog.message}")
        await dialog.accept()

    async def add(self, *names: str, size: int = 2000) -> None:
        """Choose files of these names in the file input."""
        await self.page.set_input_files(
            "#pick",
            [
                {"name": name, "mimeType": "video/mp4", "buffer": b"v" * size}
                for name in names
            ],
        )


@asynccontextmanager
async def visiting(
    browser: Browser, stage: Stage, **options: Any
) -> AsyncIterator[Visit]:
    """A fresh browser profile on a stage; nothing is opened yet."""
    context = await browser.new_context(
        **{"locale": "en-GB", "viewport": {"width": 900, "height": 900}, **options}
    )
    context.set_default_timeout(10_000)
    page = await context.new_page()
    visit = Visit(page, stage)
    page.on("console", lambda line: visit.complaints.append(f"{line.type} {line.text}"))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.on("request", lambda request: visit.requested.append(request.url))
    page.on("dialog", visit.on_dialog)
    try:
        yield visit
    finally:
        await context.close()
