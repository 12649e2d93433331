"""
Three gateways on one database, each with a part of the work for itself.

Reports go to the writer, all clients wait at the reader, and the idle one has
nobody: what each of them spends on an event is what gateways cost each other.
"""

import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

from bench.children import Children, free_port, listening
from bench.database import Databases
from bench.ours import Secrets, environment, hearing, prepare, running
from bench.peers.redis import redis
from bench.procfs import tree
from bench.server import Contestant, Kind, Running, Terms

SCENARIO = "apart"
_SERVE = [sys.executable, "-m", "gateway", "serve"]
_RELAY = [sys.executable, "-m", "gateway", "relay"]
_GATEWAYS = ("writer", "reader", "idle")


@asynccontextmanager
async def _start(
    children: Children, databases: Databases, terms: Terms, *, is_relayed: bool
) -> AsyncIterator[Running]:
    known = Secrets.made()
    ports = {name: free_port() for name in _GATEWAYS}
    parts: dict[str, Callable[[], list[int]]] = {"postgres": databases.pids}
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(databases.fresh())
        await prepare(database.url, terms.files)
        env = environment(known, database.url, 0, terms)
        if is_relayed:
            server = await stack.enter_async_context(redis(children))
            env["REELREADY_REDIS_URL"] = server.url
            relay = children.child("relay", _RELAY, env=env)
            pid = (await stack.enter_async_context(relay)).pid
            parts |= {"redis": server.pids, "relay": partial(tree, pid)}
        for name, port in ports.items():
            own = env | {"REELREADY_PORT": str(port)}
            gateway = children.child(name, _SERVE, env=own, is_server=True)
            process = await stack.enter_async_context(gateway)
            await listening(port, process, children, name)
            parts[name] = partial(tree, process.pid)
        for port in ports.values():
            await hearing(port)
        pids = [parts[name] for name in _GATEWAYS]
        reader = parts["reader"]()[0]
        yield replace(
            running(
                known, Kind.SSE, ports["reader"], reader, databases, database, terms
            ),
            publish_port=ports["writer"],
            pids=lambda: [pid for one in pids for pid in one()],
            parts=parts,
        )


def _no_redis() -> str:
    return "" if shutil.which("redis-server") else "redis-server is not installed"


APART = Contestant(
    name="ours-apart",
    kind=Kind.SSE,
    about="three gateways, rung by Postgres",
    start=partial(_start, is_relayed=False),
    only=frozenset({SCENARIO}),
)
RELAYED = Contestant(
    name="ours-relay",
    kind=Kind.SSE,
    about="three gateways, rung by a relay and Redis",
    start=partial(_start, is_relayed=True),
    missing=_no_redis,
    only=frozenset({SCENARIO}),
)
