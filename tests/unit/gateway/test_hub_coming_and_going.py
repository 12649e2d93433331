"""Who comes, who goes, and what the hub knows of who is there."""

import pytest

from gateway.hub import Hub, Subscriber
from gateway.model import FileId, Reading
from gateway.protocol.cursor import CURRENT, UNKNOWN
from tests.unit.gateway.fakes import (
    FILE,
    RecordingSubscriber,
    anyone_behind,
    assert_empty,
    joined,
    reading,
)


async def test_a_reading_for_somebody_who_left_goes_nowhere():
    hub, gone, stays = Hub(), RecordingSubscriber(), RecordingSubscriber()
    for one in (gone, stays):
        hub.add(one)
    await hub.behind()
    hub.remove(gone)

    for one in (gone, stays):
        hub.deliver(one, reading(1))

    assert ([], [1]) == (gone.seqs, stays.seqs)


async def test_whoever_leaves_while_it_is_handed_a_page_leaves_nothing_behind():
    class Leaver(RecordingSubscriber):
        def deliver(self, reading: Reading | None) -> None:
            hub.remove(self)

    hub, one = Hub(), Leaver()
    hub.add(one)
    await hub.behind()

    hub.deliver(one, reading(1, head=2))

    assert_empty(hub)


async def test_put_back_forgets_who_has_gone():
    hub, gone, stays = Hub(), RecordingSubscriber(), RecordingSubscriber(file_id="f-2")
    for one in (gone, stays):
        hub.add(one)
    taken = await hub.behind()
    hub.remove(gone)

    hub.put_back(taken)

    assert [stays] == await anyone_behind(hub)


def test_leaving_twice_counts_once():
    hub, one, other = Hub(), RecordingSubscriber(), RecordingSubscriber()
    hub.add(one)
    hub.add(other)

    hub.remove(one)
    hub.remove(one)

    assert 1 == len(hub)


def test_a_block_that_fails_leaves_nobody_in_the_hub():
    hub = Hub()
    legs = [RecordingSubscriber(file_id=f"f-{n % 3}") for n in range(9)]

    def fail_within() -> None:
        with joined(hub, *legs):
            assert 9 == len(hub)
            raise LookupError

    with pytest.raises(LookupError):
        fail_within()

    assert_empty(hub)


def test_the_hub_counts_who_waits_for_one_file():
    hub = Hub()
    others = RecordingSubscriber(file_id="f-2")
    with joined(hub, RecordingSubscriber(), RecordingSubscriber(), others):
        assert [2, 1, 0] == [hub.waiting_for(one) for one in (FILE, "f-2", "f-3")]


@pytest.mark.parametrize(
    ("cursors", "seen"),
    [((4, 7, 5), (4, 7)), ((CURRENT, 7), (0, 7)), ((UNKNOWN,), (0, 0))],
)
def test_what_was_seen_of_a_file_is_from_the_last_cursor_to_the_first(cursors, seen):
    hub = Hub()
    with joined(hub, *map(RecordingSubscriber, cursors)):
        assert {FILE: seen} == hub.seen()
    assert {} == hub.seen()


def test_a_drain_says_goodbye_once_even_to_those_who_leave_at_once():
    hub = Hub()
    stays = RecordingSubscriber()
    leavers = [RecordingSubscriber(hub=hub, file_id=f"f-{n}") for n in range(3)]
    for one in (stays, *leavers):
        hub.add(one)
    assert not hub.draining

    hub.drain()

    assert hub.draining
    assert [["drain"]] * 4 == [one.ends for one in (stays, *leavers)]
    assert 1 == len(hub)


def test_a_subscriber_must_say_how_it_takes_and_ends():
    bare = Subscriber(FILE, 0)

    with pytest.raises(NotImplementedError):
        bare.deliver(None)
    with pytest.raises(NotImplementedError):
        bare.end("drain")


async def test_it_tells_of_each_file_that_is_held_and_held_no_more():
    hub, told = Hub(), []
    hub.on_held = told.append
    one, another = RecordingSubscriber(CURRENT), RecordingSubscriber(CURRENT)
    for act in hub.add, hub.remove:
        act(one)
        act(another)

    assert [one.file_id, one.file_id] == told


async def test_what_was_seen_of_some_files_is_of_those_only():
    hub, one = Hub(), RecordingSubscriber(CURRENT)
    hub.add(one)

    assert {one.file_id} == hub.seen([one.file_id, FileId("f-9")]).keys()
    assert {} == hub.seen([])
