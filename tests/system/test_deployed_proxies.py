"""
Behind nginx, HAProxy and Caddy as deploy/ configures them, in a real browser.

How fast an event comes through them, and that silence is not cut, is what soak
`proxies` is about.
"""

import asyncio
import json
import re
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from bench.children import free_port, listening
from bench.soak.browser import chromium, open_tab
from bench.soak.deployed_proxy import DEPLOYED_PROXIES, balancer
from bench.soak.ledger import Ledger
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.tcp_proxy import TcpProxy

TABS = 20
LIMIT_S = 60
GUEST = "127.0.0.9"
METRICS = (
    "/metrics",
    "/metrics?x",
    "/%6Detrics",
    "/%6D%65%74%72%69%63%73",
    "/metric%73",
)
"""Spellings that the gateway's router takes for the same."""

SETTINGS = {
    "ACCESS_LOG": "on",
    "TRUSTED_PROXIES": "127.0.0.1",
    "MAX_SUBSCRIBERS_PER_IP": str(TABS * len(DEPLOYED_PROXIES)),
    # Whoever is forgotten, no heartbeat found.
    "HEARTBEAT_SECONDS": "300",
}


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
    exactly = URL(url, encoded=True)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.get(exactly) as one,
    ):
        return one.status


async def statuses_of_metrics(url):
    """Ask for the metrics, however they are spelled."""
    return {await status(f"{url}{spelled}", GUEST) for spelled in METRICS}


def logged(stage):
    """What the gateway's access log tells: who asked for what."""
    for line in stage.children.log("gateway").read_text().splitlines():
        if "reelready.access" in line:
            said = json.loads(line)
            yield said["remote"], said["message"]


def all_are_logged(stage, path):
    """Wait until the log has each of them, once for each proxy."""
    lines = {("127.0.0.1", f"GET {path} 200"), (GUEST, f"GET {path} 200")}
    lines.add((GUEST, "GET /no-such-page 404"))

    async def asked():
        seen = Counter(logged(stage))
        return all(seen[one] >= len(DEPLOYED_PROXIES) for one in lines)

    return until(asked)


@pytest.mark.timeout(180)
async def test_twenty_tabs_of_one_host_follow_and_are_told_apart():
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stage = await enter(Stage(settings=SETTINGS))
        await stage.start_gateway()
        await stage.ready()
        browser = await enter(chromium())
        reporter = await enter(Reporter(stage, Ledger()))
        files = [await reporter.register() for _ in range(TABS)]
        path = f"/v1/files/{files[0][0]}/events"
        proxies = [
            await enter(one.before(stage.port, stage.children))
            for one in DEPLOYED_PROXIES
        ]
        context = await browser.new_context(ignore_https_errors=True)
        opened = [await tabs_of(context, one.url, files) for one in proxies]
        tabs = [tab for some, _ in opened for tab in some]
        await all_of(tabs, lambda one: [1] == one.seqs)

        # Twenty streams to a host at once, which HTTP/1.1 has no room for.
        assert [{"h2"}] * len(proxies) == [protocols for _, protocols in opened]
        assert len(tabs) == (await stage.metrics())["subscribers"]

        # An address may have so many; another one's are its own.
        refused = {"reason": "refused"}
        made_up = {"X-Forwarded-For": "192.0.2.1"}
        for one in proxies:
            assert refused == await told(one.url, files[0], "127.0.0.1")
            assert refused == await told(one.url, files[0], "127.0.0.1", **made_up)
            assert files[0][0] == (await told(one.url, files[0], GUEST))["id"]
            assert 404 == await status(f"{one.url}/no-such-page", GUEST)
        await all_are_logged(stage, path)

        # Whoever leaves is not waited for.
        async def guests_are_gone():
            return (await stage.metrics())["subscribers"] == len(tabs)

        await until(guests_are_gone)

        # A restart costs a reconnect and no tab.
        await stage.end_gateway(signal.SIGTERM)
        await stage.start_gateway()
        for file_id, _ in files:
            await reporter.complete(file_id)
        await all_of(tabs, lambda one: one.status == "playable")
        assert [[1, 2]] * len(tabs) == [(await tab.told()).seqs for tab in tabs]

        # What is for inside stays there, and no log has a credential.
        await context.close()
        assert {200} == await statuses_of_metrics(f"http://127.0.0.1:{stage.port}")
        for one in proxies:
            assert {404} == await statuses_of_metrics(one.url)
            logs = one.logs()
            assert path in logs
            assert not [token for _, token in files if token in logs]


async def all_answer(url, times=10):
    """Whether each of several connections is answered with 200."""
    asked = [status(url, GUEST) for _ in range(times)]
    return {200} == set(await asyncio.gather(*asked))


@pytest.mark.timeout(120)
async def test_a_balancer_leads_to_a_machine_that_is_ready_and_else_to_any():
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stage = await enter(Stage())
        await stage.start_gateway()
        await stage.ready()
        postgres = await enter(TcpProxy(urlsplit(stage.url).port))
        stage.url = postgres.instead_of(stage.url)
        port = free_port()
        env = stage.environment() | {"REELREADY_PORT": str(port)}
        command = [sys.executable, "-m", "gateway", "serve"]
        second = await enter(stage.children.child("second", command, env=env))
        await listening(port, second, stage.children, "second")
        proxy = balancer(f"127.0.0.1:{port}")
        stand = await enter(proxy.before(stage.port, stage.children))
        through, past = f"{stand.url}/readyz", f"http://127.0.0.1:{port}/readyz"
        await until(lambda: all_answer(past, times=1))
        await until(lambda: all_answer(through))
        assert {"one", "two"} == set(re.findall(r" gateway/(one|two) ", stand.logs()))
        assert {404} == await statuses_of_metrics(stand.url)

        async with postgres.black_hole():
            # One that is cut off gets nobody.
            async def is_cut_off():
                return not await all_answer(past, times=1)

            await until(is_cut_off)
            await until(lambda: all_answer(through))

            # With none that is ready, one that lives is heard all the same.
            async def the_first_is_out():
                out = ("gateway/one is DOWN", "whoever_lives/one is DOWN")
                return all(one in stand.logs() for one in out)

            await stage.end_gateway(signal.SIGKILL)
            await until(the_first_is_out)
            assert await all_answer(f"{stand.url}/healthz")
            assert 503 == await status(through, GUEST)
            assert " whoever_lives/two " in stand.logs()

        await until(lambda: all_answer(through))
