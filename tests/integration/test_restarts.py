"""
Restarts that nobody notices: the listening socket outlives the process.

The parent of these gateways is the test; in production it is systemd.
"""

import asyncio
import base64
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.model import FileId, Report, ReportType
from gateway.store.append import Append, Incoming
from gateway.store.pool import Pool
from tests.integration.conftest import API_KEY, BUCKET, INGEST_KEY, TOKEN_SECRET
from tests.unit.gateway.fakes import NOW

_PASSED_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-m", "gateway", "serve"])
"""
"""What systemd does: the socket becomes descriptor 3 of the service."""

RESTARTS = 3


@pytest.fixture
def listening():
    """A socket that listens before, between and after the gateways."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as one:
        yield one


@asynccontextmanager
async def serving(
    database_url, listening, *, stderr=None, cwd=None, environ=None, **settings
):
    """Run `reelready serve` on it until the block ends, then SIGTERM."""
    settings = {
        "DATABASE_URL": database_url,
        "BUCKET": BUCKET,
        "PLAYBACK_BASE_URL": "https://play.example.com/",
        "INGEST_SECRETS": f"whsec_{base64.b64encode(INGEST_KEY).decode()}",
        "API_KEYS": API_KEY,
        "TOKEN_SECRETS": TOKEN_SECRET,
    } | settings
    ours = {
        name: value for name, value in os.environ.items() if "REELREADY" not in name
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PASSED_ON, str(listening.fileno())),
        env=ours
        | {f"REELREADY_{name}": value for name, value in settings.items()}
        | {
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        | (environ or {}),
        pass_fds=[listening.fileno()],
        stderr=stderr,
        cwd=cwd,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


class Tab:
    """A browser's EventSource: comes back by itself, with its last event id."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ids: list[str] = []
        self.connects = 0
        self.statuses: set[int] = set()

    async def watch(self, session) -> None:
        """Read until the server says that nothing can follow."""
        while True:
            headers = {
                "Accept": "text/event-stream",
                "Authorization": f"Bearer {API_KEY}",
            }
            headers["Last-Event-ID"] = self.ids[-1] if self.ids else "0"
            try:
                async with session.get(self.url, headers=headers) as answer:
                    self.connects += 1
                    self.statuses.add(answer.status)
                    if answer.status == 204:
                        return
                    async for line in answer.content:
                        if line.startswith(b"id: "):
                            self.ids.append(line[4:].strip().decode())
            except aiohttp.ClientPayloadError:
                pass


async def until(so: Callable[[], bool]) -> None:
    """Wait for something to be so; the test's timeout is the bound."""
    while True:
        if so():
            return
        await asyncio.sleep(0.02)


async def knock(url, statuses, stop):
    """Open new connections all the time; being refused ends the test."""
    while not stop.is_set():
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(force_close=True)
            ) as one,
            one.get(f"{url}/healthz") as answer,
        ):
            statuses.add(answer.status)
        await asyncio.sleep(0.01)


@pytest.mark.timeout(120)
async def test_restarts_behind_an_inherited_socket_refuse_and_lose_nothing(
    database_url, make_gateway, listening
):
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with make_gateway(database_url) as beside:
        file_id = await beside.new_file()
    tabs = [Tab(f"{url}/v1/files/{file_id}/events") for _ in range(50)]
    statuses: set[int] = set()
    stop = asyncio.Event()
    exits_s = []
    async with (
        Pool(database_url, max_connections=2) as pool,
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session,
        asyncio.TaskGroup() as tasks,
    ):
        append = Append(pool, {})

        async def report(kind: ReportType, attempt: int) -> None:
            said = Report(type=kind, occurred_at=NOW, attempt=attempt)
            await append([Incoming(FileId(file_id), said)])

        for tab in tabs:
            tasks.create_task(tab.watch(session))
        tasks.create_task(knock(url, statuses, stop))
        for number in range(RESTARTS + 1):
            async with serving(database_url, listening) as process:
                await until(
                    lambda past=number: all(tab.connects > past for tab in tabs)
                )
                await report(ReportType.UPLOADED, number + 2)
                if number < RESTARTS:
                    process.send_signal(signal.SIGTERM)
                    asked_at = time.monotonic()
                    await report(ReportType.CONVERTING, number + 2)
                    assert 0 == await process.wait()
                    exits_s.append(time.monotonic() - asked_at)
                else:
                    await report(ReportType.COMPLETED, number + 2)
                    await until(lambda: all(204 in tab.statuses for tab in tabs))
                    stop.set()

    last = 2 * (RESTARTS + 1) + 1
    assert [[str(seq) for seq in range(1, last + 1)]] * len(tabs) == [
        tab.ids for tab in tabs
    ]
    assert {200} == statuses
    assert all(tab.statuses == {200, 204} for tab in tabs)
    assert max(exits_s) < 5


async def test_what_is_passed_must_be_a_listening_socket(database_url, tmp_path):
    with (tmp_path / "file").open("w") as plain, socket.socket() as silent:
        for passed, problem in (
            (plain, "no socket"),
            (silent, "no listening TCP socket"),
        ):
            async with serving(database_url, passed, stderr=PIPE) as process:
                _, said = await process.communicate()
            assert 2 == process.returncode
            assert b"LISTEN_FDS" in said
            assert problem.encode() in said
