"""What a listener by way of Redis does when the library loses a cancellation."""

import asyncio
from contextlib import nullcontext

import pytest

from gateway.hub import Hub
from gateway.telemetry import Metrics
from workers import redis_listener
from workers.redis_listener import RedisListener


class Greedy:
    """
    Takes a cancellation that comes while it sends for the end of sending.

    Args:
        fails: Whether it then says that the connection is lost.
    """

    def __init__(self, *, fails=False):
        self.sends = asyncio.Event()
        self._fails = fails

    async def subscribe(self, *_channels):
        self.sends.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if self._fails:
                raise ConnectionError from None

    async def get_message(self, *, timeout):
        await asyncio.sleep(60)

    async def ping(self):
        pass


@pytest.fixture
def listener():
    hub = Hub()
    hub._files["f-1"] = type("File", (), {"subscribers": {object()}})()
    return RedisListener(
        "redis://127.0.0.1:1/",
        hub,
        ring=hub.ring,
        look=None,
        identity=None,
        metrics=Metrics(),
        safety_look_s=60,
    )


async def ends(work, greedy):
    """Cancel work while it sends; returns whether it ends."""
    task = asyncio.create_task(work)
    await greedy.sends.wait()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=0.5)
    for _ in range(20):
        task.cancel()
        await asyncio.wait({task}, timeout=0.05)
    return bool(done)


async def test_a_cancellation_that_is_lost_ends_it_all_the_same(listener):
    greedy = Greedy()

    assert await ends(listener._subscribe(greedy), greedy)


@pytest.mark.parametrize("fails", [False, True])
async def test_one_that_is_lost_at_the_begin_ends_the_listener(
    listener, monkeypatch, fails
):
    """It is told once only, and whoever tells it waits for its end."""
    greedy = Greedy(fails=fails)
    monkeypatch.setattr(redis_listener, "connect", nullcontext)
    monkeypatch.setattr(redis_listener, "subscription", lambda _: nullcontext(greedy))

    assert await ends(listener.run(), greedy)
