"""P7: a session that LISTENs and never reads fills the queue of notifications."""

import contextlib
import logging
import re
import secrets

import asyncpg
import pytest

from local.postgres import Postgres
from tests.integration.conftest import config_for, running_gateway
from workers.listener import QUEUE_ALARM
from workers.migrate import migrate

SMALLEST_QUEUE = {"max_notify_queue_pages": "64"}
"""Half a megabyte; the usual queue has eight gigabytes."""


@pytest.fixture(autouse=True)
def aws(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "ap-northeast-2")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")


@contextlib.asynccontextmanager
async def session(url):
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def fill_queue(url, *, until):
    """Notify until the queue is that full, or takes no more."""
    async with session(url) as connection:
        used = "select pg_notification_queue_usage()"
        with contextlib.suppress(asyncpg.ProgramLimitExceededError):
            while await connection.fetchval(used) < until:
                await connection.execute(
                    "select pg_notify('noise', $1)", secrets.token_hex(3900)
                )


async def metric(gateway, name):
    async with gateway.http.get(f"{gateway.url}/metrics") as answer:
        found = re.search(
            rf"^reelready_{name} (\S+)$", await answer.text(), re.MULTILINE
        )
    return float(found[1])


async def until_ready(gateway, *, so):
    while True:
        async with gateway.http.get(f"{gateway.url}/readyz") as answer:
            if (answer.status == 200) == so:
                return


@pytest.mark.timeout(90)
async def test_a_queue_that_nobody_drains_is_named_and_stops_no_report(caplog):
    caplog.set_level(logging.WARNING)
    async with contextlib.AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(Postgres(settings=SMALLEST_QUEUE))
        await migrate(postgres.url)
        config = config_for(postgres.url, safety_read_seconds=3600)
        one = await stack.enter_async_context(running_gateway(config))
        other = await stack.enter_async_context(running_gateway(config))
        file_id = await one.new_file()
        path = f"/v1/files/{file_id}/events"
        here = await stack.enter_async_context(one.open_stream(path))
        there = await stack.enter_async_context(other.open_stream(path))
        assert ["1", "1"] == [(await anext(frames)).id for frames in (here, there)]

        async with session(postgres.url) as stuck:
            await stuck.execute("listen noise")
            await stuck.execute("begin; select 1")
            await fill_queue(postgres.url, until=QUEUE_ALARM + 0.05)
            while await metric(one, "notification_queue_usage") < QUEUE_ALARM:
                pass
            named = [record.getMessage() for record in caplog.records]

            await fill_queue(postgres.url, until=1)
            await one.report(file_id, "uploaded")
            await one.complete(file_id)
            for frames in (here, there):
                assert ["2", "3"] == [(await anext(frames)).id for _ in range(2)]
            await until_ready(other, so=False)

        # Its session has ended, and so everything heals.
        await until_ready(one, so=True)
        await until_ready(other, so=True)
        while await metric(one, "notification_queue_usage") >= QUEUE_ALARM:
            pass

    assert any("the notification queue is" in one for one in named)
    said = [record.getMessage() for record in caplog.records]
    assert 1 == sum("commits do not ring" in one for one in said)
