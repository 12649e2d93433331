"""Every route of the contract, in one table."""

from aiohttp import web

from gateway.web.files import FileRoutes
from gateway.web.health import Health
from gateway.web.ingest import IngestRoutes
from gateway.web.page import Page
from gateway.web.polls import Polls
from gateway.web.streams import Streams

_FILE = "/v1/files/{file_id:[0-9a-z-]{1,64}}"


def routes(
    *,
    files: FileRoutes,
    polls: Polls,
    streams: Streams,
    ingest: IngestRoutes,
    health: Health,
    page: Page,
) -> list[web.RouteDef]:
    """List what is served where."""

    async def events(request: web.Request) -> web.StreamResponse:
        if "text/event-stream" in request.headers.get("Accept", ""):
            return await streams.one(request)
        return await polls.events(request)

    return [
        web.post("/v1/files", files.create),
        web.get(_FILE, polls.file),
        web.get(f"{_FILE}/events", events, allow_head=False),
        web.get(f"{_FILE}/history", files.story),
        web.post(f"{_FILE}/reports", ingest.report),
        web.post(f"{_FILE}/manifest", ingest.manifest),
        web.get("/v1/events", streams.many, allow_head=False),
        web.get("/healthz", health.alive),
        web.get("/readyz", health.ready),
        web.get("/metrics", health.metrics),
        web.get("/openapi.yaml", page.openapi),
        web.get("/page.json", page.settings),
        web.get("/static/{name}", page.static),
        web.get("/", page.index),
    ]
