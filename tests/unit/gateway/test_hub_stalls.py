"""Subscribers that can take nothing for a while, and what they find when they can."""

from gateway.hub import Hub
from gateway.model import Reading, Seq
from tests.unit.gateway.fakes import (
    FILE,
    RecordingSubscriber,
    anyone_behind,
    assert_empty,
    caught_up,
    joined,
    reading,
)


async def test_a_stalled_subscriber_is_left_alone_until_it_resumes():
    hub, one = Hub(), RecordingSubscriber(full_after=1)
    hub.add(one)
    await caught_up(hub, one, 1)
    hub.ring([(FILE, Seq(2))])
    hub.ring([(FILE, Seq(3))])
    assert await anyone_behind(hub) is None

    hub.resume(one)

    assert [one] == await anyone_behind(hub)


async def test_resuming_at_the_head_asks_for_no_reading():
    hub, one = Hub(), RecordingSubscriber(full_after=1)
    hub.add(one)
    await caught_up(hub, one, 1)

    hub.resume(one)

    assert await anyone_behind(hub) is None


async def test_subscribers_that_move_their_cursors_later_are_not_read_twice():
    class Writer(RecordingSubscriber):
        def deliver(self, reading: Reading | None) -> None:
            self.stalled = True

    hub, writers = Hub(), [Writer(), Writer()]
    for one in writers:
        hub.add(one)
    await hub.behind()
    for one in writers:
        hub.deliver(one, reading(1, 2))

    for one in writers:
        one.cursor = 2
        hub.resume(one)

    assert await anyone_behind(hub) is None


async def test_a_subscriber_that_stalls_before_its_first_reading_still_gets_it():
    hub, one = Hub(), RecordingSubscriber(5)
    hub.add(one)
    one.stalled = True
    assert await anyone_behind(hub) is None

    hub.resume(one)

    assert [one] == await anyone_behind(hub)


async def test_a_subscriber_that_stalls_during_its_reading_is_read_again_later():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    await hub.behind()
    one.stalled = True
    hub.deliver(one, reading(1))
    assert ([], None) == (one.readings, await anyone_behind(hub))

    hub.resume(one)

    assert [one] == await anyone_behind(hub)


async def test_resuming_after_leaving_does_nothing():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    hub.remove(one)

    hub.resume(one)

    assert_empty(hub)


async def test_a_reading_older_than_a_ring_does_not_hide_it_from_the_stalled():
    hub, stalled, other = (
        Hub(),
        RecordingSubscriber(full_after=1),
        RecordingSubscriber(),
    )
    with joined(hub, stalled, other):
        await hub.behind()
        hub.deliver(stalled, reading(1))
        hub.deliver(other, reading(1))
        hub.ring([(FILE, Seq(2))])
        await hub.behind()
        hub.ring([(FILE, Seq(3))])
        hub.deliver(other, reading(2))

        hub.resume(stalled)

        assert {stalled, other} == set(await hub.behind())
