"""
Whoever is in stays in, newcomers are told when to come back.

What needs a crowd is in `bench.soak.shortage`, which tests run in its short size.
"""

import json
import os
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.integration.conftest import (
    aws_environment,
    gateway_with,
    make_gateway,
    signed,
)

__all__ = ["aws_environment", "gateway_with", "make_gateway"]

LOOPBACK = (ip_network("127.0.0.0/8"),)
RETRY_AFTER_S = {"2", "3", "4", "5"}
UPLOADED = {"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}


def use_up(gateway, share):
    """Allow so much memory that this share of it is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = gateway.built._door.access._memory
    memory._max_bytes = int(pages * os.sysconf("SC_PAGE_SIZE") / share)
    memory.look()


def signed_report():
    """What `post` needs to report something."""
    raw = json.dumps(UPLOADED).encode()
    return {"data": raw, "headers": signed(raw)}


async def refused(gateway, path, **headers):
    """Whether a stream and a poll of a newcomer are refused, each in its way."""
    (first,) = await gateway.stream(path, headers=headers, most=1)
    async with gateway.http.get(
        f"{gateway.url}{path}?after=1&wait=1", headers=headers
    ) as answer:
        status, retry_after_s = answer.status, answer.headers.get("Retry-After")
    if first.event == "bye":
        assert {"reason": "refused"} == first.json()
        assert 503 == status
        assert retry_after_s in RETRY_AFTER_S
        return True
    assert 200 == status
    return False


async def count(gateway, name):
    """Read one metric."""
    async with gateway.http.get(f"{gateway.url}/metrics") as answer:
        text = await answer.text()
    return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])


async def test_when_memory_is_short_only_newcomers_are_refused(gateway_with):
    """D5."""
    async with gateway_with() as gateway:
        file_id = await gateway.new_file()
        path = f"/v1/files/{file_id}/events"
        async with gateway.open_stream(path) as frames:
            await anext(frames)

            use_up(gateway, 0.87)
            assert await refused(gateway, path)
            await gateway.report(file_id, "uploaded")
            assert "2" == (await anext(frames)).id

            use_up(gateway, 0.98)
            status, _ = await gateway.post(file_id, "reports", UPLOADED)
            assert 503 == status
            async with gateway.http.get(f"{gateway.url}/readyz") as answer:
                assert 200 == answer.status

            use_up(gateway, 0.5)
            assert not await refused(gateway, path)
            await gateway.report(file_id, "converting")
            assert "3" == (await anext(frames)).id
        name = 'reelready_refused_total{reason="memory"}'
        assert 2 == await count(gateway, name)


async def test_a_file_is_followed_by_so_many(gateway_with):
    async with gateway_with(max_subscribers_per_file=1) as gateway:
        full, other = [await gateway.new_file() for _ in range(2)]
        async with gateway.open_stream(f"/v1/files/{full}/events") as frames:
            await anext(frames)

            assert await refused(gateway, f"/v1/files/{full}/events")
            assert not await refused(gateway, f"/v1/files/{other}/events")


@pytest.mark.parametrize(
    ("trusted", "claimed", "is_refused"),
    [
        ((), "192.0.2.9", True),
        ((), "127.0.0.1, 192.0.2.9, unknown", True),
        (LOOPBACK, "192.0.2.1", True),
        (LOOPBACK, "192.0.2.9, 192.0.2.1", True),
        (LOOPBACK, "192.0.2.9", False),
        (LOOPBACK, "192.0.2.1, 192.0.2.9", False),
    ],
)
async def test_an_address_is_what_trusted_proxies_say_and_nobody_else(
    gateway_with, trusted, claimed, is_refused
):
    """H6: the first client is 192.0.2.1, if a proxy is believed at all."""
    async with gateway_with(
        max_subscribers_per_ip=1, trusted_proxies=trusted
    ) as gateway:
        path = f"/v1/files/{await gateway.new_file()}/events"
        async with gateway.open_stream(
            path, headers={"X-Forwarded-For": "192.0.2.1"}
        ) as frames:
            await anext(frames)
            said = {"X-Forwarded-For": claimed}

            assert is_refused == await refused(gateway, path, **said)


async def test_without_a_database_reports_are_spread_and_streams_stay(
    restartable_database, make_gateway
):
    async with make_gateway(restartable_database.url) as gateway:
        file_id = await gateway.new_file()
        path = f"/v1/files/{file_id}"
        async with gateway.open_stream(f"{path}/events") as frames:
            await anext(frames)
            asked_s = set()
            async with restartable_database.postgres.stopped():
                for _ in range(30):
                    async with gateway.http.post(
                        f"{gateway.url}{path}/reports", **signed_report()
                    ) as answer:
                        assert 503 == answer.status
                        asked_s.add(answer.headers["Retry-After"])
            await gateway.report(file_id, "uploaded")

            assert "2" == (await anext(frames)).id
    assert len(asked_s) > 1
    assert asked_s <= RETRY_AFTER_S
