"""
N5: a browser opens six connections to an origin, however many tabs there are.

Real gateway, real Chromium; plain HTTP/1.1 is the narrowest there is.  That with
HTTP/2 in front nothing is narrow, tests/system/test_deployed_proxies.py shows.
"""

import asyncio
from contextlib import AsyncExitStack

import pytest

from bench.soak.browser import ANY_PAGE, chromium, open_tab
from bench.soak.ledger import Ledger
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage

TABS = 20
FILES = 60
LIMIT_S = 60
MOST_STREAMS = 4
"""Of our client, in all tabs together: two connections are left for the rest."""

SPARE = {0, 1}
"""Chromium may hold a connection ready that it has no use for yet."""

BOARD = """([ids, key]) => {
  const query = ids.map((id) => `file=${id}`).join("&");
  const source = new EventSource(`/v1/events?${query}&token=${key}`);
  const newest = {};
  source.onmessage = ({ data }) => {
    const file = JSON.parse(data);
    newest[file.id] = file;
  };
  globalThis.count = (status) =>
    Object.values(newest).filter((file) => file.status === status).length;
}"""


@pytest.fixture
async def place():
    """A gateway, a hand that reports, and a browser."""
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(Stage())
        await stage.start_gateway()
        await stage.ready()
        reporter = Reporter(stage, Ledger())
        await stack.enter_async_context(reporter)
        browser = await stack.enter_async_context(chromium())
        context = await browser.new_context(ignore_https_errors=True)
        yield stage, reporter, context


async def all_of(count, tabs, status):
    """Wait until so many tabs know that status; returns whether they came to."""
    for _ in range(LIMIT_S * 5):
        told = await asyncio.gather(*(tab.told() for tab in tabs))
        if count == sum(one.status == status for one in told):
            return True
        await asyncio.sleep(0.2)
    return False


@pytest.mark.timeout(180)
async def test_twenty_tabs_share_six_connections_and_all_see_the_end(place):
    stage, reporter, context = place
    origin = f"http://127.0.0.1:{stage.port}"
    files = [await reporter.register() for _ in range(TABS)]
    tabs = [
        await open_tab(await context.new_page(), origin, *file, is_native=False)
        for file in files
    ]
    assert await all_of(TABS, tabs, "awaiting_upload")
    for file_id, _ in files:
        await reporter.report(file_id)
    assert await all_of(TABS, tabs, "converting")
    streams = (await stage.metrics())["subscribers"]
    for file_id, _ in files:
        await reporter.complete(file_id)

    assert await all_of(TABS, tabs, "playable")
    told = await asyncio.gather(*(tab.told() for tab in tabs))
    assert [[1, 2, 3]] * TABS == [one.seqs for one in told]
    assert streams <= MOST_STREAMS


async def boards_see_all(place, origin, *, tabs):
    """Follow all files in each tab; returns how many connections that took."""
    stage, reporter, context = place
    files = [(await reporter.register())[0] for _ in range(FILES)]
    pages = [await context.new_page() for _ in range(tabs)]
    for page in pages:
        await page.goto(f"{origin}/{ANY_PAGE}")
        await page.evaluate(BOARD, [files, stage.known.api_key])

    async def seen(status):
        expression = f"count('{status}') === {FILES}"
        for page in pages:
            await page.wait_for_function(expression, timeout=LIMIT_S * 1000)

    await seen("awaiting_upload")
    connections = (await stage.metrics())["connections"]
    for file_id in files:
        await reporter.report(file_id)
    await seen("converting")
    for file_id in files:
        await reporter.complete(file_id)
    await seen("playable")
    return connections


@pytest.mark.timeout(180)
async def test_a_board_of_many_files_takes_one_connection_of_each_tab(place):
    stage, _, _ = place
    origin = f"http://127.0.0.1:{stage.port}"

    assert await boards_see_all(place, origin, tabs=4) - 4 in SPARE
