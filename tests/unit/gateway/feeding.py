"""A feed at work on a table of memory, and what a test does to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.feed import Feed
from gateway.hub import Hub
from gateway.model import Event, Reading, Seq
from gateway.telemetry import Metrics
from tests.unit.gateway.fakes import FILE, FakeHistory


@asynccontextmanager
async def feeding(
    hub: Hub, history: FakeHistory, tracing: Any = None
) -> AsyncIterator[Feed]:
    feed = Feed(hub, history, Metrics(), tracing)
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def ring(hub: Hub, *seqs: int) -> None:
    for seq in seqs:
        hub.ring([(FILE, Seq(seq))])


def written(*seqs: int) -> Reading:
    """What one transaction wrote of one file."""
    events = tuple(Event(Seq(seq), b"{}", b"") for seq in seqs)
    return Reading(head=Seq(seqs[-1]), owner=None, events=events)
