"""Who keeps gateways kills the one that stands still, and not for standing still itself."""

import asyncio
import sys
import time

import pytest

from gateway import processes

SPEAKS = """
import socket, sys, time
line = socket.socket(fileno=0)
line.send(b"ready")
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    line.send(b".")
    time.sleep(0.02)
time.sleep(60)
"""


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(processes, "SILENCE_LIMIT_S", 0.5)
    monkeypatch.setattr(processes, "LIFE_INTERVAL_S", 0.2)


async def child_that_speaks_for(seconds):
    command = [sys.executable, "-c", SPEAKS, str(seconds)]
    child = await processes._Child.started(command, [])
    assert await child.serves()
    return child


async def test_one_that_says_nothing_any_more_is_killed(hasty):
    child = await child_that_speaks_for(0.1)

    async with asyncio.timeout(30):
        assert -9 == await child.ended(1)
    await child.end()


async def test_one_that_speaks_outlives_that_its_parent_stood_still(hasty):
    child = await child_that_speaks_for(50)
    ending = asyncio.create_task(child.ended(1))
    await asyncio.sleep(0.1)

    time.sleep(2)  # noqa: ASYNC251 - as if stopped
    await asyncio.sleep(0.3)

    try:
        assert child.process.returncode is None
    finally:
        await child.end()
        await ending
