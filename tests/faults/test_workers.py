"""Workers that die in the middle: each file still ends, and once."""

import asyncio
import base64
import os
import random
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.conversion import waiting_room
from tests.integration.conftest import (
    API_KEY,
    BUCKET,
    INGEST_KEY,
    TOKEN_SECRET,
    config_for,
    running_gateway,
)

WORKERS = 3
KILLS = 4
FILES_A_KILL = 10
"""In each stage."""

ANSWER_S = 0.3
ENDS = dict.fromkeys(
    (
        "upload_never_came",
        "conversion_never_started",
        "conversion_never_reported",
    ),
    KILLS * FILES_A_KILL,
)
PATIENCE = {
    "silence_seconds": 1,
    "upload_url_seconds": 2,
    "upload_deadline_seconds": 2,
    "start_deadline_seconds": 2,
    "conversion_deadline_seconds": 2,
}


class SlowS3:
    """An S3 without a single object, and whoever asks it waits for that."""

    def __init__(self):
        self.asking = asyncio.Event()

    async def answer(self, _request):
        self.asking.set()
        await asyncio.sleep(ANSWER_S)
        return web.Response(status=404)


class Workers:
    """Processes of `reelready worker`; all are ended with the block."""

    def __init__(self, environ):
        self._environ = environ
        self._running = []

    async def __aenter__(self):
        for _ in range(WORKERS):
            await self.start()
        return self

    async def __aexit__(self, *_):
        for process in self._running:
            process.terminate()
        codes = {await process.wait() for process in self._running}
        # One that has just begun does not listen to signals yet.
        assert codes <= {0, -signal.SIGTERM}

    async def start(self):
        self._running.append(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "gateway", "worker"), env=self._environ
            )
        )

    async def kill_one(self):
        process = self._running.pop(random.randrange(WORKERS))
        process.kill()
        assert -signal.SIGKILL == await process.wait()
        await self.start()


def environ(database_url, **endpoints):
    settings = {
        "DATABASE_URL": database_url,
        "BUCKET": BUCKET,
        "PLAYBACK_BASE_URL": "https://play.example.com/",
        "INGEST_SECRETS": f"whsec_{base64.b64encode(INGEST_KEY).decode()}",
        "API_KEYS": API_KEY,
        "TOKEN_SECRETS": TOKEN_SECRET,
    } | {name.upper(): str(seconds) for name, seconds in PATIENCE.items()}
    aws = {
        "AWS_REGION": "ap-northeast-2",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
    }
    urls = {f"AWS_ENDPOINT_URL_{name.upper()}": url for name, url in endpoints.items()}
    ours = {f"REELREADY_{name}": value for name, value in settings.items()}
    return os.environ | aws | urls | ours


async def make_files(gateway):
    """Files that fall silent, in each stage."""
    for _ in range(FILES_A_KILL):
        await gateway.new_file()
        await gateway.report(await gateway.new_file(), "uploaded")
        await gateway.report(await gateway.new_file(), "converting")


async def ended(gateway):
    """How often each way to end was written."""
    rows = await gateway.fetch(
        "select state->'error'->>'code' from events where type in ('expired', 'failed')"
    )
    return Counter(code for (code,) in rows)


@pytest.mark.timeout(120)
async def test_workers_that_are_killed_at_any_moment_end_each_file_once(
    database_url, tmp_path, monkeypatch
):
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    s3 = SlowS3()
    app = web.Application()
    app.router.add_route("*", "/{key:.*}", s3.answer)
    async with AsyncExitStack() as leave:
        enter = leave.enter_async_context
        cloud = await enter(waiting_room(tmp_path))
        server = await enter(TestServer(app))
        gateway = await enter(running_gateway(config_for(database_url, **PATIENCE)))
        url = str(server.make_url("/"))
        urls = {"s3": url, "mediaconvert": cloud.url, "lambda": url}
        workers = await enter(Workers(environ(database_url, **urls)))
        for _ in range(KILLS):
            await make_files(gateway)
            s3.asking.clear()
            await asyncio.wait_for(s3.asking.wait(), 30)
            await asyncio.sleep(random.uniform(0, 2 * ANSWER_S))
            await workers.kill_one()
        while (await ended(gateway)).total() < sum(ENDS.values()):  # noqa: ASYNC110 - it is in other processes
            await asyncio.sleep(0.2)

        assert ENDS == await ended(gateway)
