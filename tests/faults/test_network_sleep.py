"""
N7: a laptop sleeps for hours and wakes up to another world.

Meanwhile its connection was cut, the gateway restarted, the file ended, and what
it had yet to read was pruned.  The end must reach it all the same.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager

import pytest

from bench.soak.browser import chromium, open_tab
from bench.soak.ledger import Ledger
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage

PRUNE = "delete from events where file_id = $1 and seq between 2 and $2"
LIMIT_S = 30


@pytest.fixture
async def place():
    """A gateway that may be restarted, and a hand that reports."""
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        async with Reporter(stage, Ledger()) as reporter:
            yield stage, reporter


async def until(holds):
    """Ask until it is so; the test's limit is the bound."""
    while True:
        if await holds():
            return
        await asyncio.sleep(0.1)


async def a_night_passes(stage, reporter, file_id):
    """Let everything happen to a file that its reader misses."""
    await stage.end_gateway(signal.SIGTERM)
    await stage.start_gateway()
    await stage.ready()
    for _ in range(3):
        await reporter.report(file_id)
    await reporter.complete(file_id)
    async with stage.database() as database:
        await database.execute(PRUNE, file_id, 4)


async def knows(tab, status):
    return (await tab.told()).status == status


async def waits(stage):
    return (await stage.metrics())["subscribers"] == 1


@asynccontextmanager
async def watching(stage, file_id):
    """Run `reelready watch`; what it says comes line by line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "watch", file_id),
        *("--url", f"http://127.0.0.1:{stage.port}/"),
        env=os.environ | {"REELREADY_API_KEY": stage.known.api_key},
        stdout=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_process_that_was_stopped_wakes_up_to_the_end(place):
    stage, reporter = place
    file_id, _ = await reporter.register()
    async with asyncio.timeout(LIMIT_S), watching(stage, file_id) as process:
        first = json.loads(await process.stdout.readline())
        await until(lambda: waits(stage))
        process.send_signal(signal.SIGSTOP)
        await a_night_passes(stage, reporter, file_id)
        process.send_signal(signal.SIGCONT)
        later = [json.loads(line) async for line in process.stdout]

        assert "awaiting_upload" == first["status"]
        assert [(5, "playable")] == [(one["seq"], one["status"]) for one in later]
        assert 0 == await process.wait()


@pytest.mark.parametrize("is_native", [True, False], ids=["EventSource", "our client"])
async def test_a_tab_that_was_away_comes_back_to_the_end(place, is_native):
    stage, reporter = place
    file_id, token = await reporter.register()
    async with asyncio.timeout(LIMIT_S), chromium() as browser:
        context = await browser.new_context()
        origin = f"http://127.0.0.1:{stage.port}"
        page = await context.new_page()
        tab = await open_tab(page, origin, file_id, token, is_native=is_native)
        await until(lambda: knows(tab, "awaiting_upload"))
        await context.set_offline(True)
        await a_night_passes(stage, reporter, file_id)
        asleep = await tab.told()
        await context.set_offline(False)
        await until(lambda: knows(tab, "playable"))
        awake = await tab.told()

    assert [1] == asleep.seqs
    assert [1, 5] == awake.seqs
