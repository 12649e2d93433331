"""What a listener by way of Redis does when the library loses a cancellation."""

import asyncio

from gateway.hub import Hub
from gateway.telemetry import Metrics
from workers.redis_listener import RedisListener


class Greedy:
    """Takes a cancellation that comes while it sends for the end of sending."""

    def __init__(self):
        self.sends = asyncio.Event()

    async def subscribe(self, *_channels):
        self.sends.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return


async def test_a_cancellation_that_is_lost_ends_it_all_the_same():
    hub = Hub()
    listener = RedisListener(
        "redis://127.0.0.1:1/",
        hub,
        ring=hub.ring,
        look=None,
        identity=None,
        metrics=Metrics(),
        safety_look_s=60,
    )
    hub._files["f-1"] = type("File", (), {"subscribers": {object()}})()
    greedy = Greedy()
    task = asyncio.create_task(listener._subscribe(greedy))
    await greedy.sends.wait()

    task.cancel()

    done, _ = await asyncio.wait({task}, timeout=2)
    task.cancel()
    assert done
