"""Gateways behind a relay and a real Redis: rung there, and well without it."""

import asyncio
import json
import os
import re
import signal
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import redis.asyncio as redis_py

from bench.children import Children
from bench.peers.redis import redis as redis_server
from bench.peers.redis import redis_cluster
from gateway.protocol import relayed
from gateway.store.pool import Pool
from tests.integration.conftest import config_for
from workers.migrate import migrate
from workers.redis_listener import BEAT_LIMIT_S
from workers.relay import relaying

pytestmark = pytest.mark.timeout(60)

QUIET = {"safety_read_seconds": 3600}
"""A doorbell that is lost is not made up for by chance."""


@pytest.fixture
async def children():
    """Processes of ours."""
    async with Children() as ours:
        yield ours


@pytest.fixture
async def server(children):
    """A Redis of our own."""
    async with redis_server(children) as one:
        yield one


@pytest.fixture
def relay(database_url, server):
    """Start a relay, as an async context manager."""
    return lambda: relaying(config_for(database_url, redis_url=server.url))


@pytest.fixture
def behind_redis(database_url, server, make_gateway):
    """Start a gateway, as an async context manager."""
    return lambda: make_gateway(database_url, redis_url=server.url, **QUIET)


async def until(so, limit_s=20):
    async with asyncio.timeout(limit_s):
        while True:
            if await so():
                return
            await asyncio.sleep(0.05)


async def readiness(gateway):
    async with gateway.http.get(f"{gateway.url}/readyz") as answer:
        return answer.status, (await answer.json())["checks"]["listener"]


def hears(gateway):
    async def so():
        return await readiness(gateway) == (200, True)

    return so


def is_deaf(gateway):
    async def so():
        return await readiness(gateway) == (200, False)

    return so


def said(caplog, line):
    async def so():
        return line in caplog.text

    return so


async def seq_of(channel):
    """Return the seq that is said next, as a doorbell or in an event."""
    async with asyncio.timeout(10):
        said = json.loads((await anext(channel.listen()))["data"])
    return said["seq"] if isinstance(said, dict) else said


async def looks(gateway):
    async with gateway.http.get(f"{gateway.url}/metrics") as answer:
        return float(
            re.search(r"\nreelready_catch_ups_total (\S+)", await answer.text())[1]
        )


@asynccontextmanager
async def stopped(server):
    """Let Redis be there and say nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def test_what_one_commits_rings_at_the_other(relay, behind_redis):
    async with relay(), behind_redis() as one, behind_redis() as other:
        await until(hears(one))
        await until(hears(other))
        file_id = await one.new_file()
        path = f"/v1/files/{file_id}/events"
        async with one.open_stream(path) as here, other.open_stream(path) as there:
            await anext(here)
            await anext(there)
            # Their own subscriptions are confirmed, and looked at, by then.
            await asyncio.sleep(0.5)
            before = await looks(other)
            for seq, kind in enumerate(("uploaded", "converting"), 2):
                await one.report(file_id, kind)
                assert str(seq) == (await anext(here)).id == (await anext(there)).id
            assert before == await looks(other), "it rang, and nobody had to look"


async def test_whoever_comes_while_it_rings_misses_nothing(relay, behind_redis):
    """Between the first reading and the confirmed subscription nothing is heard."""
    async with relay(), behind_redis() as one, behind_redis() as other:
        await until(hears(other))

        async def story(number):
            file_id = await one.new_file()

            async def write():
                for attempt in range(2, 8):
                    await one.report(file_id, "uploaded", attempt=attempt)
                await one.complete(file_id, attempt=7)

            writing = asyncio.ensure_future(write())
            await asyncio.sleep(0.001 * number)
            path = f"/v1/files/{file_id}/events?after=0"
            frames = await other.stream(path)
            await writing
            return [one.id for one in frames if one.event == "message"]

        stories = await asyncio.gather(*map(story, range(40)))

    assert [[str(seq) for seq in range(1, 9)]] * 40 == stories


async def test_without_a_relay_it_is_deaf_and_delivers_by_looking(
    relay, behind_redis, caplog
):
    async with behind_redis() as gateway:
        file_id = await gateway.new_file()
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            assert (200, False) == await readiness(gateway)
            await gateway.report(file_id, "uploaded")
            async with asyncio.timeout(5):
                assert "2" == (await anext(frames)).id
            await asyncio.sleep(BEAT_LIMIT_S + 2.5)
            async with relay():
                await until(hears(gateway))
            await until(is_deaf(gateway))
    assert 2 == caplog.text.count("REELREADY_REDIS_URL: no relay is heard")


@pytest.mark.timeout(120)
async def test_a_redis_that_stops_or_dies_costs_a_delay(
    relay, behind_redis, make_gateway, database_url, server
):
    async with (
        relay(),
        behind_redis() as gateway,
        make_gateway(database_url) as writer,
    ):
        await until(hears(gateway))
        file_id = await gateway.new_file()
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            async with stopped(server):
                await writer.report(file_id, "uploaded")
                async with asyncio.timeout(8):
                    assert "2" == (await anext(frames)).id
                await until(is_deaf(gateway))
            await until(hears(gateway))
            await writer.report(file_id, "converting")
            async with asyncio.timeout(2):
                assert "3" == (await anext(frames)).id


@pytest.mark.timeout(120)
async def test_a_redis_that_is_killed_and_started_anew_costs_a_delay(
    relay, behind_redis, children, server
):
    async with relay(), behind_redis() as one, behind_redis() as other:
        await until(hears(one))
        await until(hears(other))
        file_id = await one.new_file()
        async with other.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            os.kill(server.pid, signal.SIGKILL)
            await one.report(file_id, "uploaded")
            async with asyncio.timeout(5):
                assert "2" == (await anext(frames)).id
            await until(is_deaf(other))
            async with redis_server(children, server.port):
                await until(hears(other))
                await one.report(file_id, "converting")
                async with asyncio.timeout(2):
                    assert "3" == (await anext(frames)).id


@pytest.mark.timeout(120)
async def test_a_redis_that_drops_subscribers_under_way_ends_no_gateway(
    relay, behind_redis, server
):
    """As it does to who reads too slowly, and a proxy to who is silent."""
    async with (
        relay(),
        behind_redis() as one,
        behind_redis() as other,
        redis_py.Redis.from_url(server.url) as client,
    ):
        await until(hears(other))

        async def come_and_go():
            file_id = await one.new_file()
            await asyncio.gather(one.complete(file_id), other.stream(path(file_id)))

        def path(file_id):
            return f"/v1/files/{file_id}/events"

        for _ in range(3):
            comings = [asyncio.ensure_future(come_and_go()) for _ in range(10)]
            await asyncio.sleep(0.03)
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.gather(*comings)
            await until(hears(other))
            await until(hears(one))


async def test_the_relay_of_another_database_is_none(
    relay, server, make_gateway, empty_database_url, caplog
):
    await migrate(empty_database_url)
    async with (
        relay(),
        make_gateway(empty_database_url, redis_url=server.url, **QUIET) as gateway,
    ):
        file_id = await gateway.new_file()
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            await asyncio.sleep(2.5)
            assert (200, False) == await readiness(gateway)
            await gateway.report(file_id, "uploaded")
            async with asyncio.timeout(5):
                assert "2" == (await anext(frames)).id
        async with relaying(config_for(empty_database_url, redis_url=server.url)):
            await until(hears(gateway))
    assert 1 == caplog.text.count("hears another database")


async def test_a_relay_without_a_schema_waits_for_it(
    empty_database_url, server, caplog
):
    """It says so once, and beats for no database that it cannot name."""
    async with (
        redis_py.Redis.from_url(server.url, decode_responses=True) as client,
        client.pubsub(ignore_subscribe_messages=True) as heard,
        relaying(config_for(empty_database_url, redis_url=server.url)),
        Pool(empty_database_url, max_connections=1) as pool,
    ):
        await heard.subscribe(relayed.BEATS)
        await until(said(caplog, "no beat: "))
        await migrate(empty_database_url)
        async with asyncio.timeout(10):
            beat = await anext(heard.listen())
        database = await pool.identity()

    assert database == relayed.beat_of(beat["data"])
    assert 1 == caplog.text.count("`reelready migrate` has to run\n")


async def test_of_two_relays_one_works_and_the_other_takes_over(
    relay, behind_redis, server
):
    async with AsyncExitStack() as first, behind_redis() as gateway:
        client = await first.enter_async_context(redis_py.Redis.from_url(server.url))

        async def lease():
            (key,) = await client.keys("reelready/relay/*") or [b"none"]
            return await client.get(key)

        async with AsyncExitStack() as one:
            await one.enter_async_context(relay())
            await until(hears(gateway))
            name = await lease()
            await first.enter_async_context(relay())
            await asyncio.sleep(3)
            assert name == await lease()

        async def is_anothers():
            return await lease() not in {None, name}

        await until(is_anothers)
        await until(hears(gateway))
        file_id = await gateway.new_file()
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            await gateway.report(file_id, "uploaded")
            async with asyncio.timeout(2):
                assert "2" == (await anext(frames)).id


async def test_a_client_of_the_old_design_gets_each_event_whole(
    relay, behind_redis, server
):
    async with (
        relay(),
        behind_redis() as gateway,
        redis_py.Redis.from_url(server.url) as client,
        client.pubsub() as old,
    ):
        await until(hears(gateway))
        file_id = await gateway.new_file()
        await old.subscribe(file_id)
        assert "subscribe" == (await old.get_message(timeout=5))["type"]

        await gateway.report(file_id, "uploaded")
        uploaded = await old.get_message(timeout=5)
        # As fast as it goes: several events may be rung for together.
        for attempt in range(2, 20):
            await gateway.report(file_id, "converting", attempt=attempt)
        await gateway.complete(file_id, attempt=19)
        seqs = [json.loads(uploaded["data"])["seq"]]
        while not seqs or seqs[-1] < 21:
            playable = await old.get_message(timeout=5)
            seqs.append(json.loads(playable["data"])["seq"])
        assert list(range(2, 22)) == seqs

        url = f"{gateway.url}/v1/files/{file_id}"
        async with gateway.http.get(url) as answer:
            assert await answer.json() == json.loads(playable["data"])
    assert ("message", "uploaded") == (
        uploaded["type"],
        json.loads(uploaded["data"])["status"],
    )


async def test_a_client_of_the_old_design_that_comes_late_hears_the_end(
    relay, behind_redis, server
):
    """One was there before it; what is between them, more than a page, is nobody's."""
    async with (
        relay(),
        behind_redis() as gateway,
        redis_py.Redis.from_url(server.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as old,
        client.pubsub(ignore_subscribe_messages=True) as doorbells,
    ):
        await until(hears(gateway))
        file_id = await gateway.new_file()
        await old.subscribe(file_id)
        await doorbells.subscribe(relayed.channel(file_id))
        await gateway.report(file_id, "uploaded")
        assert 2 == await seq_of(old)
        await old.unsubscribe(file_id)
        for attempt in range(2, 42):
            await gateway.report(file_id, "converting", attempt=attempt)
        while await seq_of(doorbells) < 42:
            pass

        await old.subscribe(file_id)
        await gateway.complete(file_id, attempt=41)

        assert 43 == await seq_of(old)


async def test_a_client_of_the_old_design_gets_a_burst_in_order(
    relay, behind_redis, server
):
    """While Redis says nothing they pile up, beyond a page."""
    async with (
        relay(),
        behind_redis() as gateway,
        redis_py.Redis.from_url(server.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as old,
    ):
        await until(hears(gateway))
        file_id = await gateway.new_file()
        await old.subscribe(file_id)
        await gateway.report(file_id, "uploaded")
        assert 2 == await seq_of(old)
        async with stopped(server):
            for attempt in range(2, 122):
                await gateway.report(file_id, "converting", attempt=attempt)
            await gateway.complete(file_id, attempt=121)

        assert list(range(3, 124)) == [await seq_of(old) for _ in range(3, 124)]


async def test_a_cluster_rings_by_any_of_its_nodes(
    children, database_url, make_gateway
):
    """The lease has one node; who is led to another one gets there."""
    async with AsyncExitStack() as leave:
        enter = leave.enter_async_context
        nodes = await enter(redis_cluster(children))
        gateway = await enter(
            make_gateway(database_url, redis_url=nodes[0].url, **QUIET)
        )
        client = await enter(redis_py.Redis.from_url(nodes[1].url))
        old = await enter(client.pubsub(ignore_subscribe_messages=True))
        for node in nodes:
            async with relaying(config_for(database_url, redis_url=node.url)):
                await until(hears(gateway))
                file_id = await gateway.new_file()
                await old.subscribe(file_id)
                path = f"/v1/files/{file_id}/events"
                async with gateway.open_stream(path) as frames:
                    await anext(frames)
                    # Its own subscription is confirmed, and looked at, by then.
                    await asyncio.sleep(0.5)
                    before = await looks(gateway)
                    await gateway.report(file_id, "uploaded")
                    assert "2" == (await anext(frames)).id
                    assert before == await looks(gateway), "it rang"
                async with asyncio.timeout(5):
                    whole = await anext(old.listen())
                assert "uploaded" == json.loads(whole["data"])["status"]
            await until(is_deaf(gateway))


async def test_a_relay_follows_its_lease_through_a_cluster(
    children, database_url, make_gateway, caplog
):
    async with AsyncExitStack() as leave:
        enter = leave.enter_async_context
        nodes = await enter(redis_cluster(children))
        gateway = await enter(
            make_gateway(database_url, redis_url=nodes[0].url, **QUIET)
        )
        clients = [
            await enter(redis_py.Redis.from_url(node.url, decode_responses=True))
            for node in nodes
        ]
        await enter(relaying(config_for(database_url, redis_url=nodes[0].url)))
        await until(hears(gateway))
        (owner,) = [one for one in clients if await one.keys("reelready/relay/*")]
        (lease,) = await owner.keys("reelready/relay/*")
        (other, *_) = [one for one in clients if one is not owner]
        slot = await owner.execute_command("CLUSTER KEYSLOT", lease)
        names = [await one.execute_command("CLUSTER MYID") for one in (owner, other)]
        # Whoever imports a slot takes it in a new epoch, and the owner gives way.
        for word, name in zip(("IMPORTING", "NODE"), names, strict=True):
            await other.execute_command(f"CLUSTER SETSLOT {slot} {word} {name}")

        async def has_moved():
            return await other.exists(lease)

        await until(has_moved)
        file_id = await gateway.new_file()
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            await until(hears(gateway))
            await gateway.report(file_id, "uploaded")
            async with asyncio.timeout(2):
                assert "2" == (await anext(frames)).id
    assert "cannot be used" not in caplog.text


async def test_who_subscribes_at_a_replica_gets_each_event_whole(
    relay, behind_redis, children, server
):
    async with (
        redis_server(children) as replica,
        redis_py.Redis.from_url(replica.url) as client,
        client.pubsub(ignore_subscribe_messages=True) as old,
    ):
        await replica.follow(server)
        async with relay(), behind_redis() as gateway:
            await until(hears(gateway))
            file_id = await gateway.new_file()
            await old.subscribe(file_id)
            await gateway.report(file_id, "uploaded")
            async with asyncio.timeout(5):
                whole = await anext(old.listen())

    assert "uploaded" == json.loads(whole["data"])["status"]


async def test_a_file_that_nobody_waits_for_stays_for_a_while(
    relay, behind_redis, server
):
    """Long-polls come back: each must not be a new subscription."""
    async with (
        relay(),
        behind_redis() as gateway,
        redis_py.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        await until(hears(gateway))
        file_id = await gateway.new_file()
        url = f"{gateway.url}/v1/files/{file_id}/events?after=1&wait=1"
        async with gateway.http.get(url) as answer:
            assert 200 == answer.status
        channel = f"reelready:{file_id}"
        assert [(channel, 1)] == await client.pubsub_numsub(channel)


async def test_a_wrong_redis_is_said_and_nothing_is_lost(
    make_gateway, database_url, caplog
):
    url = "redis://127.0.0.1:1/0"
    async with make_gateway(database_url, redis_url=url, **QUIET) as gateway:
        file_id = await gateway.new_file()
        async with gateway.open_stream(f"/v1/files/{file_id}/events") as frames:
            await anext(frames)
            await gateway.report(file_id, "uploaded")
            async with asyncio.timeout(5):
                assert "2" == (await anext(frames)).id
    assert 1 == caplog.text.count("REELREADY_REDIS_URL: cannot be reached")
