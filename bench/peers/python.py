"""The peers in Python: which application, and what it needs beside it."""

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from bench.children import Children, free_port, listening
from bench.database import Databases
from bench.document import document, file_id
from bench.errors import BenchError
from bench.peers.environment import peers_python
from bench.peers.redis import redis
from bench.procfs import tree
from bench.server import Contestant, Kind, Running, Terms, get, no_reads, post
from local.environment import CODE

_HEARTBEATS = {Kind.SSE: ": ping"}
_WEBSOCKET = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def _subscriber(kind: Kind, file: int) -> bytes:
    path = f"/files/{file_id(file)}/events"
    if kind is Kind.WEBSOCKET:
        return get(path, *_WEBSOCKET)
    return get(path, "Accept: text/event-stream")


def _publication(file: int, seq: int) -> bytes:
    return post(f"/files/{file_id(file)}", document(file, seq))


@asynccontextmanager
async def _start(
    app: str,
    kind: Kind,
    needs: str,
    children: Children,
    databases: Databases,
    terms: Terms,
) -> AsyncIterator[Running]:
    port = free_port()
    env = os.environ | {
        "PYTHONPATH": str(CODE),
        "BENCH_PORT": str(port),
        "BENCH_HEARTBEAT_S": str(terms.heartbeat_s),
    }
    other_pids: Callable[[], list[int]] = list
    reads: Callable[[], Awaitable[int]] = no_reads
    async with AsyncExitStack() as stack:
        if needs == "postgres":
            database = await stack.enter_async_context(databases.fresh())
            env["BENCH_DATABASE_URL"] = database.url
            other_pids, reads = databases.pids, database.transactions
        if needs == "redis":
            server = await stack.enter_async_context(redis(children))
            env["BENCH_REDIS_URL"] = server.url
            other_pids, reads = server.pids, server.commands
        command = [str(peers_python()), "-m", f"bench.peers.apps.{app}"]
        process = await stack.enter_async_context(
            children.child(app, command, env=env, is_server=True)
        )
        await listening(port, process, children, app)
        yield Running(
            port=port,
            pids=lambda: tree(process.pid),
            subscriber=partial(_subscriber, kind),
            publication=_publication,
            heartbeat=_HEARTBEATS.get(kind, ""),
            accepted="taken",
            other_pids=other_pids,
            reads=reads,
        )


def _missing(needs: str) -> str:
    if needs == "redis" and shutil.which("redis-server") is None:
        return "redis-server is not installed"
    try:
        peers_python()
    except BenchError as error:
        return str(error)
    return ""


def _peer(
    name: str,
    about: str,
    *,
    kind: Kind = Kind.SSE,
    needs: str = "",
    max_subscribers: int = 18_000,
) -> Contestant:
    app = name.replace("-", "_")
    return Contestant(
        name=name,
        kind=kind,
        about=about,
        start=partial(_start, app, kind, needs),
        missing=partial(_missing, needs),
        max_subscribers=max_subscribers,
    )


PYTHON_PEERS = (
    _peer("starlette-queue", "sse-starlette on uvicorn, in-process queue"),
    _peer(
        "starlette-redis",
        "sse-starlette, Redis pub/sub per file (design v2)",
        needs="redis",
        max_subscribers=9_000,
    ),
    _peer(
        "starlette-listen",
        "sse-starlette, INSERT + pg_notify and one LISTEN",
        needs="postgres",
    ),
    _peer("aiohttp-sse", "aiohttp-sse, in-process queue"),
    _peer("aiohttp-ws", "WebSocket on aiohttp, in-process queue", kind=Kind.WEBSOCKET),
    _peer(
        "polling",
        "aiohttp on Postgres, asked every 2 s (design v1)",
        kind=Kind.POLLING,
        needs="postgres",
    ),
)
