"""
What takes part: a contestant, which can be started, and what it then is.

Requests are prepared here as bytes; the load client only sends them.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum

from bench.children import Children
from bench.database import Databases


class Kind(StrEnum):
    """How clients wait; the words of the load client."""

    SSE = "sse"
    LONG_POLL = "long-poll"
    WEBSOCKET = "websocket"
    POLLING = "polling"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """
    What a scenario asks of a server.

    Attributes:
        files: How many there are, numbered from 0.
        heartbeat_s: Between two heartbeats of one connection.
        wait_s: How long a long-poll may be held.
        cgroup_procs: File that takes the pid of a process to limit, if any.
    """

    files: int
    heartbeat_s: int = 15
    wait_s: int = 600
    cgroup_procs: str = ""


def get(path: str, *headers: str) -> bytes:
    """Write the head of a GET, without the last CRLF."""
    lines = [f"GET {path} HTTP/1.1", "Host: bench.local", *headers]
    return "".join(f"{line}\r\n" for line in lines).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    """Write a whole POST of JSON."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: bench.local",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" + body


GREETING = get("/healthz") + b"\r\n"
"""A request that changes nothing; whatever the answer."""


async def no_reads() -> int:
    """Count the reads of a server without a database."""
    return 0


@dataclass(frozen=True, kw_only=True)
class Running:
    """
    A server that is up.

    Attributes:
        pids: Processes of the server itself; what memory and CPU are read of.
        other_pids: Those it cannot do without: Postgres, Redis.
        subscriber: Request of one subscriber to a file, without the last CRLF.
        publication: Whole request that makes event `seq` of a file.
        has_state: The file's current state is the first event on connecting.
        heartbeat: Text of one heartbeat.
        accepted: Text that the answer to a publication must hold.
        greeting: What a publisher is answered on a connection that stays open.
        reads: Transactions or commands the database has seen so far.
        database_url: Of the database, where there is one.
        publish_port: Where publications go, if it is not `port`.
        parts: Processes whose CPU is told apart, by what they are for.
    """

    port: int
    pids: Callable[[], list[int]]
    subscriber: Callable[[int], bytes]
    publication: Callable[[int, int], bytes]
    other_pids: Callable[[], list[int]] = field(default=list)
    has_state: bool = False
    heartbeat: str = ""
    accepted: str = ""
    greeting: bytes = GREETING
    reads: Callable[[], Awaitable[int]] = no_reads
    database_url: str = ""
    publish_port: int = 0
    parts: Mapping[str, Callable[[], list[int]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """
    Something that can be measured.

    Attributes:
        about: One line for the tables.
        start: Starts a fresh server for the length of a block.
        missing: Why it cannot take part on this machine, or nothing.
        max_subscribers: More cannot be held with the open files of a process.
        only: The scenarios that it is for; empty: all that take its kind.
        processes: Of the server, that share its work.
    """

    name: str
    kind: Kind
    about: str
    start: Callable[[Children, Databases, Terms], AbstractAsyncContextManager[Running]]
    missing: Callable[[], str] = str
    max_subscribers: int = 18_000
    only: frozenset[str] = frozenset()
    processes: int = 1
