"""
Behind nginx, HAProxy and Caddy as deploy/ configures them, in a real browser.

How fast an event comes through them, and that silence is not cut, is what soak
`proxies` is about.
"""

import asyncio
import json
import signal

import aiohttp
import pytest
import pytest_asyncio

from bench.soak.browser import chromium, open_tab
from bench.soak.deployed_proxy import DEPLOYED_PROXIES
from bench.soak.ledger import Ledger
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage

TABS = 20
LIMIT_S = 60
GUEST = "127.0.0.9"
SETTINGS = {
    "ACCESS_LOG": "on",
    "TRUSTED_PROXIES": "127.0.0.1",
    "MAX_SUBSCRIBERS_PER_IP": str(TABS),
    # Whoever is forgotten, no heartbeat found.
    "HEARTBEAT_SECONDS": "300",
}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place():
    """A gateway and a browser; each proxy has its turn before them."""
    async with Stage(settings=SETTINGS) as stage, chromium() as browser:
        await stage.start_gateway()
        await stage.ready()
        yield stage, browser


async def until(so):
    """Wait until something that is asked again and again is so."""
    for _ in range(LIMIT_S * 10):
        if await so():
            return
        await asyncio.sleep(0.1)
    pytest.fail("it did not come about")


async def tabs_of(context, origin, files):
    """Follow each file in a tab of its own, with the browser's own EventSource."""
    pages = [await context.new_page() for _ in files]
    tabs = [
        await open_tab(page, origin, *file, is_native=True)
        for page, file in zip(pages, files, strict=True)
    ]
    entry = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
    return tabs, {await page.evaluate(entry) for page in pages}


def all_of(tabs, so):
    async def asked():
        return all(map(so, await asyncio.gather(*(tab.told() for tab in tabs))))

    return until(asked)


async def told(url, file, address, **headers):
    """Open a stream from an address of ours; returns the first thing it is told."""
    file_id, token = file
    connector = aiohttp.TCPConnector(ssl=False, local_addr=(address, 0))
    asks = {"Accept": "text/event-stream", **headers}
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.get(f"{url}/v1/files/{file_id}/events?token={token}", headers=asks) as one,
    ):
        assert 200 == one.status
        async for line in one.content:
            if line.startswith(b"data: "):
                if one.connection is not None:
                    # By itself it waits 30 s for nginx to say goodbye in TLS.
                    one.connection.transport.abort()
                return json.loads(line[6:])
    return None


async def status(url, address):
    """Ask for something from an address of ours."""
    connector = aiohttp.TCPConnector(ssl=False, local_addr=(address, 0))
    async with aiohttp.ClientSession(connector=connector) as http, http.get(url) as one:
        return one.status


def logged(stage):
    """What the gateway's access log tells: who asked for what."""
    for line in stage.children.log("gateway").read_text().splitlines():
        if "reelready.access" in line:
            said = json.loads(line)
            yield said["remote"], said["message"]


@pytest.mark.parametrize("proxy", DEPLOYED_PROXIES, ids=lambda one: one.program)
async def test_twenty_tabs_of_one_host_follow_and_are_told_apart(place, proxy):
    stage, browser = place
    async with (
        Reporter(stage, Ledger()) as reporter,
        proxy.before(stage.port, stage.children) as standing,
    ):
        files = [await reporter.register() for _ in range(TABS)]
        context = await browser.new_context(ignore_https_errors=True)
        tabs, protocols = await tabs_of(context, standing.url, files)
        await all_of(tabs, lambda one: [1] == one.seqs)

        # Twenty streams at once, which HTTP/1.1 has no room for.
        assert {"h2"} == protocols
        assert TABS == (await stage.metrics())["subscribers"]

        # An address may have so many; another one's are its own.
        refused = {"reason": "refused"}
        assert refused == await told(standing.url, files[0], "127.0.0.1")
        made_up = {"X-Forwarded-For": "192.0.2.1"}
        assert refused == await told(standing.url, files[0], "127.0.0.1", **made_up)
        assert files[0][0] == (await told(standing.url, files[0], GUEST))["id"]
        asked = f"GET /v1/files/{files[0][0]}/events 200"
        assert 404 == await status(f"{standing.url}/no-such-page", GUEST)
        lines = {
            ("127.0.0.1", asked),
            (GUEST, asked),
            (GUEST, "GET /no-such-page 404"),
        }

        async def all_are_logged():
            return lines <= set(logged(stage))

        await until(all_are_logged)

        # Whoever leaves is not waited for.
        async def guest_is_gone():
            return (await stage.metrics())["subscribers"] == TABS

        await until(guest_is_gone)

        # A restart costs a reconnect and no tab.
        await stage.end_gateway(signal.SIGTERM)
        await stage.start_gateway()
        for file_id, _ in files:
            await reporter.complete(file_id)
        await all_of(tabs, lambda one: one.status == "playable")
        assert [[1, 2]] * TABS == [(await tab.told()).seqs for tab in tabs]

        # What is for inside stays there, and no log has a credential.
        assert 404 == await status(f"{standing.url}/metrics", GUEST)
        await context.close()
        logs = standing.logs()
        assert f"/v1/files/{files[0][0]}/events" in logs
        assert not [token for _, token in files if token in logs]
