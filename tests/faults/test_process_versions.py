"""
D10: the release before this one and this one, side by side on one database.

The order of an upgrade is: migrate while the old release serves, start the new one
beside it, end the old one.  The old release is its real code, ``tests/releases``.
"""

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

import aiohttp
import pytest

from tests.integration.conftest import (
    API_KEY,
    Gateway,
    aws_environment,
    config_for,
    make_gateway,
)
from tests.integration.test_restarts import listening, serving
from workers.migrate import migrate

__all__ = ["aws_environment", "listening", "make_gateway"]

BEFORE = {
    "PYTHONPATH": str(Path(__file__).parent.parent / "releases/before.zip"),
    "PYTHONSAFEPATH": "1",
}


@pytest.fixture
async def old_database_url(empty_database_url, tmp_path):
    """A database that the old release migrated."""
    assert 0 == await old_migrate(empty_database_url, tmp_path)
    return empty_database_url


async def old_migrate(database_url, folder):
    """Run the old release's `reelready migrate`; returns its exit status."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "migrate"),
        env=os.environ | BEFORE | {"REELREADY_DATABASE_URL": database_url},
        cwd=folder,
    )
    return await process.wait()


@asynccontextmanager
async def old_gateway(database_url, listening, folder):
    """Serve with the old release."""
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with (
        serving(database_url, listening, cwd=folder, environ=BEFORE),
        aiohttp.ClientSession(headers=headers) as http,
    ):
        yield Gateway(url, http, config_for(database_url), None)


async def test_what_is_run_as_the_old_release_is_the_old_release(tmp_path):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import gateway, workers; print(gateway.__file__)"),
        env=os.environ | BEFORE,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()

    assert "before.zip" in said.decode()


@pytest.mark.timeout(120)
async def test_old_and_new_write_one_story_while_the_database_is_migrated(
    old_database_url, make_gateway, listening, tmp_path
):
    async with old_gateway(old_database_url, listening, tmp_path) as old:
        file_id = await old.new_file()
        path = f"/v1/files/{file_id}/events"
        attempts = iter(range(2, 1000))
        done = asyncio.Event()

        async def report_to_the_old():
            while not done.is_set():
                await old.report(file_id, "uploaded", attempt=next(attempts))

        reporting = asyncio.ensure_future(report_to_the_old())
        assert await migrate(old_database_url)
        async with make_gateway(old_database_url) as new:
            done.set()
            await reporting
            async with (
                old.open_stream(f"{path}?after=0") as at_old,
                new.open_stream(f"{path}?after=0") as at_new,
            ):
                for gateway, _ in zip(cycle((old, new)), range(40), strict=False):
                    await gateway.report(file_id, "uploaded", attempt=next(attempts))
                files = [await one.new_file() for one in (old, new)]
                await old.complete(files[1])
                await new.complete(files[0])
                last = next(attempts)
                await new.complete(file_id, attempt=last)
                stories = [
                    [(frame.id, frame.data) async for frame in frames if frame.id]
                    for frames in (at_old, at_new)
                ]

    assert stories[0] == stories[1]
    assert [str(seq) for seq in range(1, last + 1)] == [seq for seq, _ in stories[0]]


async def test_the_new_one_before_the_migration_stores_nothing_and_then_does(
    old_database_url, make_gateway
):
    body = {"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}
    async with make_gateway(old_database_url) as new:
        file_id = await new.new_file()
        before, _ = await new.post(file_id, "reports", body, webhook_id="w-1")
        await migrate(old_database_url)
        after, _ = await new.post(file_id, "reports", body, webhook_id="w-1")

        assert (503, 200) == (before, after)
        assert 2 == (await new.state(file_id))["seq"]


async def test_the_old_one_does_not_migrate_what_is_newer(old_database_url, tmp_path):
    await migrate(old_database_url)

    assert 1 == await old_migrate(old_database_url, tmp_path)
