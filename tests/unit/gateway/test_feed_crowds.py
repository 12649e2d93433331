"""Many at once: how long a reading waits for others, and how many share one."""

import asyncio

import pytest

from gateway import feed as feed_module
from gateway.feed import MAX_READ_CURSORS
from gateway.hub import CROWD, MAX_PAGES
from gateway.protocol.cursor import CURRENT
from tests.unit.gateway.fakes import FILE, FakeHistory, RecordingSubscriber, settle
from tests.unit.gateway.feeding import feeding


@pytest.mark.parametrize(
    ("cursor", "most"), [(CURRENT, MAX_READ_CURSORS), (0, MAX_PAGES)]
)
async def test_a_storm_is_read_in_bounded_queries(hub, cursor, most):
    """Whoever has a cursor may be given a page; else, one event."""
    count = most + 1
    history = FakeHistory({f"f-{n}": 1 for n in range(count)})
    storm = [RecordingSubscriber(cursor, file_id=f"f-{n}") for n in range(count)]
    async with feeding(hub, history):
        for one in storm:
            hub.add(one)
        await settle()

    assert [most, 1] == list(map(len, history.reads))
    assert all([1] == one.seqs for one in storm)


async def test_the_first_who_falls_behind_waits_for_others(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "GATHER_S", 3600)
    history = FakeHistory({FILE: 1})
    async with feeding(hub, history):
        hub.add(RecordingSubscriber())
        await settle()

    assert [] == history.reads


async def test_few_who_fall_behind_do_not_wait_for_a_crowd(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "GATHER_CROWD_S", 3600)
    history = FakeHistory({f"f-{n}": 1 for n in range(CROWD)})
    few = [RecordingSubscriber(file_id=f"f-{n}") for n in range(CROWD - 1)]
    async with feeding(hub, history):
        for one in few:
            hub.add(one)
        await settle()

    assert [[1]] * len(few) == [one.seqs for one in few]


async def test_those_who_are_stalled_are_no_crowd(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "GATHER_CROWD_S", 3600)
    history = FakeHistory({f"f-{n}": 1 for n in range(CROWD)} | {FILE: 1})
    stalled = [RecordingSubscriber(file_id=f"f-{n}") for n in range(CROWD)]
    one = RecordingSubscriber()
    async with feeding(hub, history):
        for each in stalled:
            each.stalled = True
            hub.add(each)
        hub.add(one)
        await settle()

    assert [1] == one.seqs


async def test_a_crowd_waits_for_its_rest(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "GATHER_CROWD_S", 0.05)
    history = FakeHistory({f"f-{n}": 1 for n in range(2 * CROWD)})
    was_read = asyncio.Event()
    history.during_read = was_read.set
    crowd = [RecordingSubscriber(file_id=f"f-{n}") for n in range(2 * CROWD)]
    async with feeding(hub, history):
        for one in crowd[:CROWD]:
            hub.add(one)
        await settle()
        assert not was_read.is_set()
        for one in crowd[CROWD:]:
            hub.add(one)
        await was_read.wait()
        await settle()

    assert 1 == len(history.reads)
    assert [[1]] * len(crowd) == [one.seqs for one in crowd]
