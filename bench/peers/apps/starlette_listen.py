"""
sse-starlette with Postgres: each event is inserted and notified in one
transaction, and one LISTEN feeds the queues of the process.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.peers.apps.queues import Queues
from bench.peers.apps.serving import DATABASE_URL, HEARTBEAT_S, serve_starlette

_CHANNEL = "events"
_TABLE = """
create table if not exists events (
    id bigserial primary key, file_id text not null, body json not null
)
"""
_queues = Queues()


def _notified(_connection: Any, _pid: int, _channel: str, payload: str) -> None:
    _queues.put(json.loads(payload)["id"], payload)


@asynccontextmanager
async def _database(app: Starlette) -> AsyncIterator[None]:
    async with asyncpg.create_pool(DATABASE_URL, min_size=8, max_size=8) as pool:
        await pool.execute(_TABLE)
        listener = await asyncpg.connect(DATABASE_URL)
        await listener.add_listener(_CHANNEL, _notified)
        app.state.pool = pool
        yield
        await listener.close()


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
    """Take one event; answered after the commit."""
    file_id = request.path_params["file_id"]
    body = (await request.body()).decode()
    pool = request.app.state.pool
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "insert into events (file_id, body) values ($1, $2)", file_id, body
        )
        await connection.execute("select pg_notify($1, $2)", _CHANNEL, body)
    return Response(b'{"outcome":"taken"}', media_type="application/json")


app = Starlette(
    routes=[
        Route("/files/{file_id}/events", events),
        Route("/files/{file_id}", publish, methods=["POST"]),
    ],
    lifespan=_database,
)

if __name__ == "__main__":
    serve_starlette(app)
