"""P11: what is pointed at a standby says so, and nothing is read or written there."""

import asyncio
import sys
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from bench.children import Children
from bench.ours import Secrets, environment
from bench.server import Terms
from bench.soak.standby import REPLICATES, has_all, promote, standby_of
from gateway.errors import ConfigError, UnavailableError
from gateway.store.pool import Pool, refuse_standby
from gateway.telemetry import Metrics
from local.postgres import Postgres
from tests.integration.conftest import config_for
from workers import checkup
from workers.listener import Listener
from workers.migrate import migrate


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers():
    """A primary and its standby."""
    async with (
        Children() as children,
        Postgres(watchdog=children.watchdog, settings=REPLICATES) as primary,
    ):
        await migrate(primary.url)
        async with standby_of(primary.url, children) as standby:
            await has_all(standby, primary.url)
            yield primary, standby


async def reelready(command, primary, **settings):
    """Run a command that must not start; its exit code and what it said."""
    env = environment(Secrets.made(), primary.url, 1, Terms(files=0))
    env["REELREADY_REDIS_URL"] = "redis://127.0.0.1:1"
    env |= {f"REELREADY_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", command),
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_the_start_names_the_setting(servers):
    primary, standby = servers
    starts = [
        ("serve", "DATABASE_URL"),
        ("serve", "LISTEN_DATABASE_URL"),
        ("relay", "DATABASE_URL"),
        ("relay", "LISTEN_DATABASE_URL"),
        ("worker", "DATABASE_URL"),
        ("migrate", "DATABASE_URL"),
    ]

    ends = await asyncio.gather(
        *(
            reelready(command, primary, **{setting: standby.url})
            for command, setting in starts
        )
    )

    for (_, setting), (code, said) in zip(starts, ends, strict=True):
        assert 2 == code
        assert said.startswith(f"Error: REELREADY_{setting}: names a standby")
        assert 1 == said.count("\n")


@pytest.mark.parametrize("setting", ["DATABASE_URL", "LISTEN_DATABASE_URL"])
async def test_the_doctor_names_the_setting(servers, setting):
    primary, standby = servers
    settings = {"listen_database_url": primary.url, setting.lower(): standby.url}
    config = config_for(**{"database_url": primary.url, **settings})

    (found,) = await checkup._doorbell(config)

    assert found.said.startswith(f"REELREADY_{setting} names a standby, ")
    assert f"REELREADY_{setting}: name the primary" == found.remedy
    if setting == "DATABASE_URL":
        assert [found.said] == [one.said for one in await checkup._database(config)]


async def test_a_server_that_is_away_is_waited_for():
    await refuse_standby("postgresql://nobody@127.0.0.1:1/none", "DATABASE_URL")


async def test_of_several_hosts_the_primary_is_found(servers):
    """What a DSN for a failover looks like, as libpq has it."""
    primary, standby = servers
    account, _, host = primary.url.partition("@")
    both = f"{account}@{urlsplit(standby.url).netloc.rpartition('@')[2]},{host}"

    async with Pool(both, max_connections=1) as pool, pool.acquire() as connection:
        assert not await connection.fetchval("select pg_is_in_recovery()")
    version, *_ = await checkup._database(config_for(database_url=both))
    assert checkup.Verdict.FINE is version.verdict


async def test_no_session_is_opened_on_a_standby_and_its_promotion_is_noticed(servers):
    """
    The last test here: the standby is one no longer.
    """
    _, standby = servers
    async with Pool(standby.url, max_connections=1) as pool:
        with pytest.raises(UnavailableError, match="the database is a standby"):
            await pool.ping()
        with pytest.raises(ConfigError):
            await refuse_standby(standby.url, "DATABASE_URL")
        waiting = asyncio.ensure_future(refuse_standby(standby.url, "DATABASE_URL"))
        listener = Listener(
            standby.url,
            setting="REELREADY_LISTEN_DATABASE_URL",
            ring=lambda _: None,
            look=no_look,
            notify=pool.notify,
            metrics=Metrics(),
            safety_look_s=60,
        )
        listening = asyncio.ensure_future(listener.run())
        done, _ = await asyncio.wait(
            [listening, asyncio.ensure_future(listener.listening.wait())], timeout=1
        )
        assert not done

        await promote(standby)

        await pool.ping()
        await waiting
        await listener.listening.wait()
        listening.cancel()
        await asyncio.wait([listening])


async def no_look() -> None:
    """Nobody waits for anything."""
