"""A database that is away is waited out."""

from collections.abc import Callable

import pytest

from gateway import feed as feed_module
from gateway.errors import UnavailableError
from gateway.feed import Feed
from gateway.protocol.cursor import CURRENT, UNKNOWN
from gateway.telemetry import Metrics
from tests.unit.gateway.fakes import (
    FILE,
    FakeHistory,
    RecordingSubscriber,
    joined,
    settle,
)
from tests.unit.gateway.feeding import feeding, ring


@pytest.mark.usefixtures("retries_at_once")
async def test_while_the_database_is_away_newcomers_are_refused_and_others_wait(hub):
    history = FakeHistory({FILE: 1})
    seated = RecordingSubscriber(hub=hub)
    async with feeding(hub, history):
        hub.add(seated)
        await settle()
        history.away = True
        history.heads[FILE] = 2
        ring(hub, 2)
        newcomers = [RecordingSubscriber(at, hub=hub) for at in (CURRENT, UNKNOWN, 1)]
        for one in newcomers:
            hub.add(one)
        await settle()
        assert [["refused"]] * 3 == [one.ends for one in newcomers]
        assert [1] == seated.seqs

        history.away = False
        await settle()

    assert [1, 2] == seated.seqs
    assert [] == seated.ends
    assert 1 == len(hub)


@pytest.mark.usefixtures("retries_at_once")
async def test_only_the_batch_that_failed_is_postponed(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "MAX_READ_CURSORS", 1)
    history = FakeHistory({FILE: 1})
    subscribers = [RecordingSubscriber(CURRENT, hub=hub) for _ in range(3)]
    history.during_read = fail(False, True)
    async with feeding(hub, history):
        for one in subscribers:
            hub.add(one)
        await settle()

    assert [[1]] * 3 == [one.seqs for one in subscribers]
    assert 3 + 1 == len(history.reads)


@pytest.mark.usefixtures("retries_at_once")
async def test_one_failure_refuses_nobody(hub, caplog):
    """A restart of the database leaves a dead connection in the pool."""
    history = FakeHistory({FILE: 1})
    newcomers = [RecordingSubscriber(CURRENT, hub=hub) for _ in range(2)]
    history.during_read = fail(True, False, True)
    async with feeding(hub, history):
        for one in newcomers:
            hub.add(one)
            await settle()

    assert [[1], [1]] == [one.seqs for one in newcomers]
    assert ["1 subscribers wait: the database is away"] * 2 == caplog.messages


@pytest.mark.parametrize("at", [CURRENT, UNKNOWN, 0, 1])
async def test_the_second_failure_in_a_row_refuses_newcomers(hub, monkeypatch, at):
    """Whether they bring a cursor or not: nothing was promised to them yet."""
    monkeypatch.setattr(feed_module, "_RETRY_S", (0, 3600))
    history = FakeHistory({FILE: 1})
    history.away = True
    newcomer = RecordingSubscriber(at, hub=hub)
    async with feeding(hub, history):
        hub.add(newcomer)
        await settle()

    assert ["refused"] == newcomer.ends


async def test_who_cannot_take_a_reading_is_ended_and_nobody_else(hub, caplog):
    class Broken(RecordingSubscriber):
        def deliver(self, reading):
            raise IndexError("a defect")

    history = FakeHistory({FILE: 1})
    broken = Broken(CURRENT, hub=hub)
    others = [RecordingSubscriber(CURRENT, hub=hub) for _ in range(5)]
    async with feeding(hub, history):
        for one in (*others[:2], broken, *others[2:]):
            hub.add(one)
        await settle()

    assert [[1]] * 5 == [one.seqs for one in others]
    assert ["refused"] == broken.ends
    assert [f"cannot deliver {FILE}"] == caplog.messages


async def test_a_database_that_stays_away_is_asked_less_and_less_often(
    hub, monkeypatch
):
    monkeypatch.setattr(feed_module, "_RETRY_S", (0, 0, 3600))
    history = FakeHistory({FILE: 1})
    history.away = True
    async with feeding(hub, history):
        hub.add(RecordingSubscriber())
        await settle()

    assert 3 == len(history.reads)


async def test_no_pause_follows_a_read_that_succeeded(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "_RETRY_S", (3600,))
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber()
    async with feeding(hub, history):
        hub.add(one)
        await settle()
        history.heads[FILE] = 2
        ring(hub, 2)
        await settle()

    assert [1, 2] == one.seqs


async def test_looking_says_when_the_database_is_away(hub):
    history = FakeHistory({FILE: 1})
    history.away = True
    with joined(hub, RecordingSubscriber()), pytest.raises(UnavailableError):
        await Feed(hub, history, Metrics()).look()


def fail(*turns: bool) -> Callable[[], None]:
    """Let some of the first reads fail."""
    left = iter(turns)

    def happen() -> None:
        if next(left, False):
            raise UnavailableError("the database is away")

    return happen
