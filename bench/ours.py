"""
The gateway itself: `reelready serve`, as anybody would run it.

Every client shows a watch token of its own, every report is signed, and it is
answered after its transaction is on disk.  The bench knows its HTTP and its
tables, nothing else of it.
"""

import asyncio
import base64
import hmac
import os
import re
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import asyncpg
import jwt

from bench.children import Children, free_port, listening
from bench.database import Database, Databases
from bench.document import FIRST_SEQ, document, file_id
from bench.errors import RunError
from bench.procfs import tree
from bench.server import Contestant, Kind, Running, Terms, get, post
from local.environment import CODE, LOOPBACK, without_aws
from workers.migrate import migrate

_NAME = "ours"
_IN_CGROUP = 'echo $$ > "$0" && exec "$@"'
_TOKEN_LIFE_S = 86_400
_READY_S = 30.0
_POLL_S = 0.05
_HEARS = re.compile(rb"^reelready_listener_up(?:{.*})? 1\.0$", re.MULTILINE)
_REGISTER = """
with file as (
    insert into files
        (id, seq, status, owner, attempt, state, jobs, deadline_at, created_at)
    select id, 1, 'awaiting_upload', owner, 1, state, '{}', now() + '1 day', now()
    from unnest($1::text[], $2::text[], $3::json[]) as f (id, owner, state)
)
insert into events (file_id, seq, type, sender, occurred_at, recorded_at, state)
select id, 1, 'created', 'gateway', now(), now(), state
from unnest($1::text[], $3::json[]) as f (id, state)
"""


@dataclass(frozen=True)
class Secrets:
    """Made for one run."""

    api_key: str
    token: str
    ingest: bytes

    @classmethod
    def made(cls) -> "Secrets":
        return cls(
            secrets.token_urlsafe(36),
            secrets.token_urlsafe(36),
            secrets.token_bytes(32),
        )

    def watch_token(self, file: int) -> str:
        claims = {
            "aud": "reelready",
            "exp": int(time.time()) + _TOKEN_LIFE_S,
            "files": [file_id(file)],
        }
        return jwt.encode(claims, self.token, algorithm="HS256")

    def signed(self, webhook_id: str, body: bytes) -> tuple[str, str, str]:
        """Headers of Standard Webhooks; good for five minutes."""
        at = int(time.time())
        content = f"{webhook_id}.{at}.".encode() + body
        signature = base64.b64encode(hmac.digest(self.ingest, content, "sha256"))
        return (
            f"webhook-id: {webhook_id}",
            f"webhook-timestamp: {at}",
            f"webhook-signature: v1,{signature.decode()}",
        )


def _subscriber(known: Secrets, kind: Kind, wait_s: int, file: int) -> bytes:
    path = f"/v1/files/{file_id(file)}/events"
    token = f"Authorization: Bearer {known.watch_token(file)}"
    if kind is Kind.SSE:
        return get(path, token, "Accept: text/event-stream")
    return get(f"{path}?after={FIRST_SEQ}&wait={wait_s}", token)


def _publication(known: Secrets, file: int, seq: int) -> bytes:
    """A report that is always accepted: a higher attempt than the last one."""
    now = datetime.now(UTC).isoformat()
    body = (
        f'{{"type":"converting","occurred_at":"{now}","attempt":{seq},'
        f'"job_id":"1700000000000-{file:06d}","phase":"transcoding","percent":42,'
        f'"sender":"hls_file_manifest_saver"}}'
    ).encode()
    signature = known.signed(f"bench-{file}-{seq}", body)
    return post(f"/v1/files/{file_id(file)}/reports", body, *signature)


async def prepare(url: str, files: int) -> None:
    """Make the tables, and the files as the gateway would: the row, and event 1."""
    await migrate(url)
    numbers = range(files)
    states = [document(file, FIRST_SEQ, status="awaiting_upload") for file in numbers]
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            _REGISTER,
            [file_id(file) for file in numbers],
            [f"u-{file % 997}" for file in numbers],
            [state.decode() for state in states],
        )
        await connection.execute("analyze files, events")
    finally:
        await connection.close()


def environment(known: Secrets, url: str, port: int, terms: Terms) -> dict[str, str]:
    settings = {
        "DATABASE_URL": url,
        "BUCKET": "reelready-bench",
        "PLAYBACK_BASE_URL": "https://media.example/",
        "INGEST_SECRETS": f"whsec_{base64.b64encode(known.ingest).decode()}",
        "API_KEYS": known.api_key,
        "TOKEN_SECRETS": known.token,
        "HOST": LOOPBACK,
        "PORT": str(port),
        "HEARTBEAT_SECONDS": str(terms.heartbeat_s),
        "MAX_WAIT_SECONDS": str(terms.wait_s),
        "STREAM_MAX_AGE_SECONDS": "86400",
    }
    aws = {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
    }
    prefixed = {f"REELREADY_{name}": value for name, value in settings.items()}
    theirs = {k: v for k, v in os.environ.items() if not k.startswith("REELREADY_")}
    return without_aws(theirs) | aws | prefixed | {"PYTHONPATH": str(CODE)}


async def hearing(port: int, processes: int = 1) -> None:
    """
    Wait until each process of a gateway hears its own notifications.

    Raises:
        RunError: They do not.
    """
    deadline, answer = time.monotonic() + _READY_S, b""
    while time.monotonic() < deadline:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        writer.write(get("/metrics", "Connection: close") + b"\r\n")
        answer = await reader.read()
        writer.close()
        if len(_HEARS.findall(answer)) == processes:
            return
        await asyncio.sleep(_POLL_S)
    raise RunError(f"{_NAME} is not ready: {answer[-200:].decode(errors='replace')}")


@asynccontextmanager
async def _start(
    kind: Kind,
    processes: int,
    children: Children,
    databases: Databases,
    terms: Terms,
) -> AsyncIterator[Running]:
    known, port = Secrets.made(), free_port()
    command = [sys.executable, "-m", "gateway", "serve"]
    if processes > 1:
        command += ["--processes", str(processes)]
    if terms.cgroup_procs:
        command = ["/bin/sh", "-c", _IN_CGROUP, terms.cgroup_procs, *command]
    async with databases.fresh() as database:
        await prepare(database.url, terms.files)
        env = environment(known, database.url, port, terms)
        async with children.child(_NAME, command, env=env, is_server=True) as process:
            await listening(port, process, children, _NAME)
            await hearing(port, processes)
            yield running(known, kind, port, process.pid, databases, database, terms)


def running(
    known: Secrets,
    kind: Kind,
    port: int,
    pid: int,
    databases: Databases,
    database: Database,
    terms: Terms,
) -> Running:
    """Say what a gateway that is up takes and gives."""
    return Running(
        port=port,
        pids=lambda: tree(pid),
        other_pids=databases.pids,
        subscriber=lambda file: _subscriber(known, kind, terms.wait_s, file),
        publication=lambda file, seq: _publication(known, file, seq),
        has_state=kind is Kind.SSE,
        heartbeat="event: hb",
        accepted='"applied"',
        greeting=post(f"/v1/files/{file_id(0)}/reports", b"{}"),
        reads=database.transactions,
        database_url=database.url,
        parts={"gateway": lambda: tree(pid), "postgres": databases.pids},
    )


OURS = Contestant(
    name="ours",
    kind=Kind.SSE,
    about="the gateway, SSE: watch tokens, state on connect, durable",
    start=partial(_start, Kind.SSE, 1),
)
OURS_LONG_POLL = Contestant(
    name="ours-lp",
    kind=Kind.LONG_POLL,
    about="the gateway, long-poll",
    start=partial(_start, Kind.LONG_POLL, 1),
)
OURS_PROCESSES = tuple(
    Contestant(
        name=f"ours-x{number}",
        kind=Kind.SSE,
        about=f"the gateway, {number} processes on one address",
        start=partial(_start, Kind.SSE, number),
        only=frozenset({"processes"}),
        processes=number,
    )
    for number in (2, 4)
)
