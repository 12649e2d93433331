"""Every file ends: silence past a deadline has an answer of its own."""

import asyncio

import pytest

from gateway.store.append import Append
from gateway.store.overdue import Overdue
from gateway.store.pool import Pool
from workers.reconciler import Reconciler


@pytest.fixture
async def own_gateway(database_url, make_gateway):
    """A gateway on a database of its own; every stage may be silent for 1 s."""
    async with make_gateway(
        database_url,
        upload_deadline_seconds=1,
        start_deadline_seconds=1,
        conversion_deadline_seconds=1,
    ) as one:
        yield one


async def swept(gateway, count):
    """Sweep until `count` files were found; the test's timeout is the bound."""
    async with Pool(gateway.config.database_url, max_connections=4) as pool:
        append = Append(pool, gateway.config.deadlines)
        workers = [Reconciler(Overdue(pool), append) for _ in range(2)]
        found = 0
        while found < count:
            found += max(await asyncio.gather(*(one.sweep() for one in workers)))
            await asyncio.sleep(0.05)


async def overdue_soon(overdue):
    """Wait for the deadline to pass; the test's timeout is the bound."""
    while True:
        if found := await overdue(10):
            return found
        await asyncio.sleep(0.05)


async def test_silence_ends_each_stage_in_its_own_way(own_gateway):
    gateway = own_gateway
    never_came = await gateway.new_file()
    never_started, never_reported = await gateway.new_file(), await gateway.new_file()
    await gateway.report(never_started, "uploaded")
    await gateway.report(never_reported, "converting", job_id="j-1")
    watching = asyncio.create_task(gateway.stream(f"/v1/files/{never_came}/events"))

    await swept(gateway, 3)

    states = [
        await gateway.state(file_id)
        for file_id in (never_came, never_started, never_reported)
    ]
    assert [
        ("expired", "upload_never_came"),
        ("failed", "conversion_never_started"),
        ("failed", "conversion_never_reported"),
    ] == [(state["status"], state["error"]["code"]) for state in states]
    assert "expired" == (await watching)[-2].json()["status"]


async def test_two_workers_end_a_file_once_and_late_reports_change_nothing(own_gateway):
    gateway = own_gateway
    file_id = await gateway.new_file()
    await gateway.report(file_id, "converting", job_id="j-1")

    await swept(gateway, 1)
    late = await gateway.complete(file_id)

    assert {"outcome": "stale", "seq": 3} == late
    assert [("created",), ("converting",), ("failed",)] == await gateway.fetch(
        "select type from events where file_id = $1 order by seq", file_id
    )


async def test_a_report_that_comes_first_wins(own_gateway):
    """
    The file was found overdue, and moved before the sweep took its lock.
    """
    gateway = own_gateway
    file_id = await gateway.new_file()
    async with Pool(gateway.config.database_url, max_connections=2) as pool:
        found = await overdue_soon(Overdue(pool))
        await gateway.report(file_id, "uploaded")

        async def as_found(_limit):
            return found

        await Reconciler(as_found, Append(pool, gateway.config.deadlines)).sweep()

    assert "uploaded" == (await gateway.state(file_id))["status"]
