"""A redis-server that stores nothing, beside the load client."""

import asyncio
import itertools
import os
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass

from bench.children import Children, free_port, listening
from bench.errors import RunError
from local.environment import LOOPBACK

_NAME = "redis"
_PROCESSED = re.compile(rb"total_commands_processed:(\d+)")
_COPIED_S = 30.0
_POLL_S = 0.02
_SLOTS = 16_384
_NODES = 3


@dataclass(frozen=True)
class Redis:
    """A server that is up."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def pids(self) -> list[int]:
        """Its one process."""
        return [self.pid]

    async def commands(self) -> int:
        """How many commands it has worked off, this one not counted."""
        said = _PROCESSED.search(self._ask("INFO stats"))
        return int(said[1]) if said else 0

    async def follow(self, other: "Redis") -> None:
        """
        Become a replica, and wait until it has all.

        Raises:
            TimeoutError: It does not get it.
        """
        self._ask(f"REPLICAOF {LOOPBACK} {other.port}")
        await self._until("INFO replication", b"master_link_status:up")

    def promote(self) -> None:
        """Follow nobody."""
        self._ask("REPLICAOF NO ONE")

    def join(self, first: "Redis", bus_port: int, slots: range) -> None:
        """Become a node of another one's cluster, and have some of its slots."""
        self._ask(f"CLUSTER ADDSLOTSRANGE {slots[0]} {slots[-1]}")
        self._ask(f"CLUSTER MEET {LOOPBACK} {first.port} {bus_port}")

    async def works(self) -> None:
        """
        Wait until all of a cluster is known here.

        Raises:
            TimeoutError: It does not come about.
        """
        await self._until("CLUSTER INFO", b"cluster_state:ok")

    async def _until(self, question: str, so: bytes) -> None:
        async with asyncio.timeout(_COPIED_S):
            while so not in self._ask(question):  # noqa: ASYNC110 - only it knows
                await asyncio.sleep(_POLL_S)

    def _ask(self, command: str) -> bytes:
        with closing(socket.create_connection((LOOPBACK, self.port), 5)) as asking:
            asking.sendall(f"{command}\r\n".encode())
            return asking.recv(65_536)


@asynccontextmanager
async def redis(
    children: Children, port: int = 0, *, bus_port: int = 0
) -> AsyncIterator[Redis]:
    """
    Run one for the length of the block.

    Args:
        port: Where an earlier one was; any that is free when left out.
        bus_port: Where the others of its cluster find it; 0: it is alone.

    Raises:
        RunError: It is not installed, or does not come up.
    """
    program, port = shutil.which("redis-server"), port or free_port()
    if program is None:
        raise RunError("redis-server is not installed")
    command = [program, "--port", str(port), "--bind", LOOPBACK]
    command += ["--save", "", "--appendonly", "no", "--tcp-backlog", "4096"]
    command += ["--maxclients", "19000", "--dir", str(children.folder)]
    command += ["--repl-diskless-sync-delay", "0"]
    if bus_port:
        command += ["--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
        command += ["--cluster-config-file", f"nodes-{port}.conf"]
    async with children.child(_NAME, command, env=os.environ) as process:
        await listening(port, process, children, _NAME)
        yield Redis(port, process.pid)


@asynccontextmanager
async def redis_cluster(children: Children) -> AsyncIterator[list[Redis]]:
    """Run a cluster without replicas for the length of the block; gives its nodes."""
    bounds = [_SLOTS * one // _NODES for one in range(_NODES + 1)]
    bus_port = free_port()
    async with AsyncExitStack() as leave:
        first = await leave.enter_async_context(redis(children, bus_port=bus_port))
        others = [
            await leave.enter_async_context(redis(children, bus_port=free_port()))
            for _ in range(_NODES - 1)
        ]
        nodes = [first, *others]
        for node, slots in zip(nodes, itertools.pairwise(bounds), strict=True):
            node.join(first, bus_port, range(*slots))
        for node in nodes:
            await node.works()
        yield nodes
