"""
The S3 stand-in on a thread of its own, for tests that use blocking clients.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from aiohttp import web
from botocore.config import Config

from local.s3 import S3

ACCESS_KEY = "AKIDLOCAL"
SECRET_KEY = "local-secret"
OTHER_ACCESS_KEY = "AKIDOTHER"
OTHER_SECRET_KEY = "other-secret"
REGION = "ap-northeast-2"
WAIT_S = 10

# One session loads the service model once; a client each costs seconds without.
_SESSION = boto3.Session()


class Events:
    """What the stand-in announced, with a bounded wait."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, event: dict[str, Any]) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def first(self, count: int) -> list[dict[str, Any]]:
        """Wait for that many and return all there are."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._events) >= count, WAIT_S)
            return list(self._events)

    def names_and_keys(self, count: int) -> list[tuple[str, str]]:
        records = [event["Records"][0] for event in self.first(count)]
        return [(one["eventName"], one["s3"]["object"]["key"]) for one in records]


class Clock:
    """A clock that a test can put forward or back."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


class Server:
    """
    A running stand-in.

    Attributes:
        url: Where it listens, without a slash at the end.
    """

    def __init__(self, root: Path, port: int, events: Events, clock: Clock) -> None:
        self.root = root
        self.port = port
        self.events = events
        self.clock = clock
        self.url = f"http://127.0.0.1:{port}"

    def client(self, **overrides: Any) -> Any:
        return client(self.url, **overrides)

    def files(self) -> list[str]:
        """Return every file on disk but the buckets' settings."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.root)) for path in found)


def client(url: str, **overrides: Any) -> Any:
    """Return a real boto3 client, set up as the README says."""
    settings: dict[str, Any] = {
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "region_name": REGION,
        "config": Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},
            connect_timeout=WAIT_S,
            read_timeout=WAIT_S,
        ),
    }
    return _SESSION.client("s3", endpoint_url=url, **settings | overrides)


@contextmanager
def serve(root: Path, **options: Any) -> Iterator[Server]:
    """Run a stand-in until the end of the block."""
    events, clock = Events(), Clock()
    settings: dict[str, Any] = {
        "access_keys": {ACCESS_KEY: SECRET_KEY, OTHER_ACCESS_KEY: OTHER_SECRET_KEY},
        "region": REGION,
        "on_event": events,
        "now": clock,
    }
    started: dict[str, Any] = {}
    ready = threading.Event()

    async def run() -> None:
        runner = web.AppRunner(
            S3(root, **settings | options).app(), shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        started.update(port=runner.addresses[0][1], stop=stop, loop=loop)
        ready.set()
        await stop.wait()
        await runner.cleanup()

    def main() -> None:
        try:
            asyncio.run(run())
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="s3")
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield Server(root, started["port"], events, clock)
    finally:
        if "stop" in started:
            started["loop"].call_soon_threadsafe(started["stop"].set)
        thread.join(WAIT_S)
