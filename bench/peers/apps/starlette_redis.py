"""
sse-starlette with one Redis pub/sub per subscriber: the project's design v2.

Redis keeps nothing for those who come too late, and a subscription is a
connection of its own, so a subscriber costs two.
"""

from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.peers.apps.serving import HEARTBEAT_S, REDIS_URL, serve_starlette

_redis = Redis.from_url(REDIS_URL, decode_responses=True, max_connections=20_000)


async def _follow(subscription: Any) -> AsyncIterator[dict[str, str]]:
    async with subscription:
        async for said in subscription.listen():
            if said["type"] == "message":
                yield {"data": said["data"]}


async def events(request: Request) -> Response:
    """Wait for events of one file."""
    subscription = _redis.pubsub()
    await subscription.subscribe(request.path_params["file_id"])
    return EventSourceResponse(_follow(subscription), ping=HEARTBEAT_S)


async def publish(request: Request) -> Response:
    """Take one event."""
    body = await request.body()
    await _redis.publish(request.path_params["file_id"], body)
    return Response(b'{"outcome":"taken"}', media_type="application/json")


app = Starlette(
    routes=[
        Route("/files/{file_id}/events", events),
        Route("/files/{file_id}", publish, methods=["POST"]),
    ]
)

if __name__ == "__main__":
    serve_starlette(app)
