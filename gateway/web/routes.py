"""
The routes that aiohttp serves.

The waiting GETs and the ingest POSTs never come here: `gateway.web.door`.
"""

from aiohttp import web

from gateway.web.files import FileRoutes
from gateway.web.health import Health
from gateway.web.page import Page

_FILE = "/v1/files/{file_id:[0-9a-z-]{1,64}}"


def routes(
    *,
    files: FileRoutes,
    health: Health,
    page: Page,
) -> list[web.RouteDef]:
    """List what is served where."""

    return [
        web.post("/v1/files", files.create),
        web.get(f"{_FILE}/history", files.story),
        web.get("/healthz", health.alive),
        web.get("/readyz", health.ready),
        web.get("/metrics", health.metrics),
        web.get("/openapi.yaml", page.openapi),
        web.get("/page.json", page.settings),
        web.get("/static/{name}", page.static),
        web.get("/", page.index),
    ]
