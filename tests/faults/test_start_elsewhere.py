"""
What is led to the wrong place says so at the start, in one line, and loses nothing.

The line names the setting and what to do.  The process goes on, since what is wrong
may pass: a place is brought back, or a schema is migrated.  A standby, which a start
does not survive, is in ``test_postgres_standby.py``; a setting that cannot be meant,
in ``tests/unit/gateway/test_config.py``.
"""

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager

import asyncpg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bench.children import Children, free_port
from bench.ours import Secrets, environment
from bench.peers.redis import redis
from bench.server import Terms
from bench.soak.deaf import pgbouncer
from gateway.errors import UnavailableError
from gateway.store.pool import Pool
from workers import migrate as migrator
from workers.migrate import migrate, migrations

pytestmark = pytest.mark.timeout(60)

NOWHERE = "redis://127.0.0.1:1/0"
PAST_THE_POOLER = (
    "REELREADY_DATABASE_URL leads to a transaction pooler that keeps no prepared"
    " statements: lead it past that, or let it keep them (max_prepared_statements)"
)
DEAF = (
    "listener lost: REELREADY_LISTEN_DATABASE_URL does not hear what"
    " REELREADY_DATABASE_URL rings, or not in time: a transaction pooler, another"
    " database, or a slow one; lead it past any pooler, to the same database"
)


@pytest.fixture
async def children():
    """Processes of ours."""
    async with Children() as ours:
        yield ours


@asynccontextmanager
async def running(command, database_url, aws_url=None, **settings):
    """Run a program; gives what it logs, line by line, and ends it."""
    env = environment(Secrets.made(), database_url, free_port(), Terms(files=0))
    env["AWS_ENDPOINT_URL"] = aws_url or "http://127.0.0.1:1"
    env |= {f"REELREADY_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", command),
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )

    async def lines():
        async for line in process.stderr:
            yield json.loads(line)

    try:
        yield lines()
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    except BaseException:
        process.kill()
        await process.communicate()
        raise
    assert 0 == process.returncode


@asynccontextmanager
async def refusing():
    """An AWS that knows whoever asks, and allows nothing."""

    async def refuse(request):
        kind = {"x-amzn-ErrorType": "AccessDeniedException"}
        said = {"Message": f"no {request.method}"}
        return web.json_response(said, status=403, headers=kind)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))


async def warned(lines):
    """Wait for the first warning."""
    async with asyncio.timeout(20):
        async for line in lines:
            if line["level"] == "WARNING":
                return line["message"]
    return None


@pytest.mark.parametrize("command", ["serve", "relay", "worker"])
async def test_an_older_schema(empty_database_url, monkeypatch, command):
    known = migrations()
    monkeypatch.setattr(migrator, "migrations", lambda: known[:-1])
    await migrate(empty_database_url)

    async with running(command, empty_database_url, REDIS_URL=NOWHERE) as lines:
        said = await warned(lines)

    assert (
        "REELREADY_DATABASE_URL: its schema is older than this release, which stores"
        f" nothing until `reelready migrate` has run: {known[-1].name} is missing"
    ) == said


@pytest.mark.parametrize("command", ["serve", "relay", "worker"])
async def test_a_newer_schema(empty_database_url, command):
    await migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("insert into schema_migrations values ('9999_a.sql', 'x')")
    await connection.close()

    async with running(command, empty_database_url, REDIS_URL=NOWHERE) as lines:
        said = await warned(lines)

    assert (
        "REELREADY_DATABASE_URL: its schema is newer than this release: install the"
        " one that has 9999_a.sql here, too"
    ) == said


@pytest.mark.parametrize("command", ["serve", "relay", "worker"])
async def test_a_database_that_refuses_us(database_url, command):
    wrong = database_url.replace("reelready:", "reelready:not-", 1)

    async with running(command, wrong, REDIS_URL=NOWHERE) as lines:
        said = await warned(lines)

    assert (
        "REELREADY_DATABASE_URL: cannot be used yet: password authentication failed"
        ' for user "reelready"; is the server up, and do its address, user and'
        " password fit?"
    ) == said


async def test_a_worker_that_may_ask_nothing_of_aws(database_url):
    async with (
        refusing() as url,
        running("worker", database_url, url, CONVERTER_FUNCTION="convert") as lines,
    ):
        storage, conversions, converter = [await warned(lines) for _ in range(3)]

    assert (
        "storage: reelready-bench may not be looked into: REELREADY_BUCKET: allow"
        " s3:ListBucket on reelready-bench and s3:GetObject on its objects: without"
        " both, an upload that is missing looks like one that is forbidden"
    ) == storage
    assert conversions.endswith(
        "AWS credentials: allow mediaconvert:GetJob and mediaconvert:ListJobs and"
        " mediaconvert:SearchJobs"
    )
    assert converter.endswith(
        "REELREADY_CONVERTER_FUNCTION: is it there, and is lambda:InvokeFunction on"
        " convert allowed?"
    )


async def test_a_worker_whose_aws_is_away(database_url):
    async with running("worker", database_url) as lines:
        said = [await warned(lines) for _ in range(2)]

    assert ["storage", "conversions"] == [one.partition(":")[0] for one in said]
    assert all(one.count("AWS_REGION and credentials") for one in said)


@pytest.mark.parametrize("command", ["serve", "relay"])
async def test_a_pooler_in_front_of_listen(database_url, children, command):
    settings = {"REDIS_URL": NOWHERE} if command == "relay" else {}
    async with (
        pgbouncer(database_url, children) as pooled_url,
        running(
            command, database_url, LISTEN_DATABASE_URL=pooled_url, **settings
        ) as lines,
    ):
        said = await warned(lines)

    assert said == DEAF


async def use_a_statement_at_two_servers(pool):
    async with pool.acquire() as other, pool.acquire() as one:
        await one.fetchval("select 1")
        # It is given the server that was used last.
        await other.execute("begin")
        try:
            await one.fetchval("select 1")
        finally:
            await other.execute("rollback")


async def test_a_pooler_in_front_of_all_else(database_url, children, caplog):
    """It is named once, when it has lost a statement that was prepared."""
    async with (
        pgbouncer(database_url, children) as pooled_url,
        Pool(pooled_url, max_connections=2) as pool,
    ):
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await use_a_statement_at_two_servers(pool)

    assert [PAST_THE_POOLER] == caplog.messages


async def test_migrating_through_a_pooler_holds_nobody_up(empty_database_url, children):
    async with pgbouncer(empty_database_url, children) as pooled_url:
        assert await migrate(pooled_url)
        assert [] == await migrate(pooled_url)
        assert [] == await migrate(empty_database_url)


@pytest.mark.parametrize(
    ("command", "prefix"),
    [
        ("serve", "REELREADY_REDIS_URL: cannot be reached, so files are looked at"),
        ("relay", "REELREADY_REDIS_URL: cannot be used, so gateways look instead"),
    ],
)
@pytest.mark.parametrize("wrong", ["dead", "another server", "no such database"])
async def test_a_redis_that_is_none(database_url, children, command, prefix, wrong):
    async with redis(children) as server:
        urls = {
            "dead": NOWHERE,
            "another server": f"redis://{database_url.rpartition('@')[2]}".replace(
                "/reelready", "/0"
            ),
            "no such database": f"redis://127.0.0.1:{server.port}/99",
        }
        async with running(command, database_url, REDIS_URL=urls[wrong]) as lines:
            said = await warned(lines)

    assert said.startswith(prefix)


async def test_a_redis_without_a_relay(database_url, children):
    async with (
        redis(children) as server,
        running("serve", database_url, REDIS_URL=server.url) as lines,
    ):
        said = await warned(lines)

    assert (
        "REELREADY_REDIS_URL: no relay is heard: `reelready relay` has to run, on the"
        " same one"
    ) == said
