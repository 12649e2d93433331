"""sse-starlette with a queue per subscriber in the process: nothing is stored."""

import asyncio
from collections.abc import AsyncIterator

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.peers.apps.queues import Queues
from bench.peers.apps.serving import HEARTBEAT_S, serve_starlette

_queues = Queues()


async def _follow(
    file_id: str, queue: asyncio.Queue[str]
) -> AsyncIterator[dict[str, str]]:
    try:
        while True:
            yield {"data": await queue.get()}
    finally:
        _queues.leave(file_id, queue)


async def events(request: Request) -> Response:
    """Wait for events of one file."""
    file_id = request.path_params["file_id"]
    queue = _queues.join(file_id)
    return EventSourceResponse(_follow(file_id, queue), ping=HEARTBEAT_S)


async def publish(request: Request) -> Response:
    """Take one event."""
    body = await request.body()
    _queues.put(request.path_params["file_id"], body.decode())
    return Response(b'{"outcome":"taken"}', media_type="application/json")


app = Starlette(
    routes=[
        Route("/files/{file_id}/events", events),
        Route("/files/{file_id}", publish, methods=["POST"]),
    ]
)

if __name__ == "__main__":
    serve_starlette(app)
