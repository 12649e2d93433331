"""Who is behind after rings, readings and commits, and who is read first."""

from gateway.hub import CROWD, MAX_PAGES, Hub
from gateway.model import FileId, Reading, Seq
from gateway.protocol.cursor import CURRENT
from tests.unit.gateway.fakes import (
    FILE,
    RecordingSubscriber,
    anyone_behind,
    assert_empty,
    caught_up,
    joined,
    reading,
)


async def test_a_newcomer_is_behind_until_its_first_reading():
    hub, one = Hub(), RecordingSubscriber(CURRENT)
    hub.add(one)

    assert 1 == len(hub)
    await caught_up(hub, one, 3)

    assert [3] == one.seqs
    assert await anyone_behind(hub) is None


async def test_a_ring_wakes_only_the_subscribers_of_that_file():
    hub = Hub()
    rung, other = RecordingSubscriber(), RecordingSubscriber(file_id="f-2")
    with joined(hub, rung, other):
        await hub.behind()
        hub.ring([(FILE, Seq(1))])

        assert [rung] == await anyone_behind(hub)


async def test_a_ring_for_what_was_seen_already_wakes_nobody():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    await caught_up(hub, one, 1, 2)

    hub.ring([(FILE, Seq(1)), (FILE, Seq(2))])

    assert await anyone_behind(hub) is None


async def test_a_ring_that_was_lost_is_heard_from_the_reading_of_another():
    hub, seated, newcomer = Hub(), RecordingSubscriber(), RecordingSubscriber(CURRENT)
    hub.add(seated)
    await caught_up(hub, seated, 1)
    hub.add(newcomer)

    await caught_up(hub, newcomer, 2)

    assert [seated] == await anyone_behind(hub)


async def test_a_ring_wakes_who_is_below_it_though_another_has_seen_it():
    hub, seated, newcomer = Hub(), RecordingSubscriber(), RecordingSubscriber(CURRENT)
    with joined(hub, seated, newcomer):
        await hub.behind()
        hub.deliver(newcomer, reading(2))
        hub.deliver(seated, reading(1, head=1))
        await anyone_behind(hub)

        hub.ring([(FILE, Seq(2))])

        assert [seated] == await anyone_behind(hub)


async def test_a_ring_for_a_file_nobody_waits_for_keeps_nothing():
    hub = Hub()

    hub.ring([(FILE, Seq(1))])

    assert_empty(hub)


async def test_so_many_pages_are_read_at_a_time_and_newcomers_wait_for_none():
    hub = Hub()
    readers = [
        RecordingSubscriber(cursor, file_id=f"f-{n}")
        for n in range(MAX_PAGES)
        for cursor in (7, 7, 8)
    ]
    newcomers = [RecordingSubscriber(CURRENT) for _ in range(2 * MAX_PAGES)]
    for one in (*readers, *newcomers):
        hub.add(one)

    first, second = await anyone_behind(hub), await anyone_behind(hub)

    assert set(newcomers) < set(first)
    assert {*readers, *newcomers} == {*first, *second}
    assert len(first) + len(second) == len(readers) + len(newcomers)
    for taken in (first, second):
        pages = {(one.file_id, one.cursor) for one in taken if one.cursor != CURRENT}
        assert MAX_PAGES == len(pages)
    assert await anyone_behind(hub) is None


async def test_whoever_fell_behind_first_is_read_first():
    """Or who comes again and again could keep out who waits."""
    hub = Hub()
    readers = [RecordingSubscriber(7, file_id=f"f-{n}") for n in range(2 * MAX_PAGES)]
    for one in readers:
        hub.add(one)
    first = await anyone_behind(hub)
    for one in first:
        hub.remove(one)
        hub.add(RecordingSubscriber(8, file_id=one.file_id))
    hub.put_back(readers[MAX_PAGES:])

    second = await anyone_behind(hub)

    assert [readers[:MAX_PAGES], readers[MAX_PAGES:]] == [first, second]


async def test_a_subscriber_that_was_given_one_page_is_still_behind():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    assert [one] == await hub.behind()

    hub.deliver(one, reading(1, 2, head=4))

    assert [one] == await anyone_behind(hub)


async def test_a_ring_during_a_reading_asks_for_another():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    await hub.behind()
    hub.ring([(FILE, Seq(2))])

    hub.deliver(one, reading(1))

    assert [one] == await anyone_behind(hub)


async def test_a_reading_that_holds_what_rang_meanwhile_is_enough():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    await hub.behind()
    hub.ring([(FILE, Seq(2))])

    hub.deliver(one, reading(1, 2))

    assert await anyone_behind(hub) is None


async def test_a_table_that_lost_events_is_believed_and_not_read_in_a_circle():
    hub, old, new = Hub(), RecordingSubscriber(), RecordingSubscriber(CURRENT)
    hub.add(old)
    await caught_up(hub, old, *range(1, 11))
    hub.add(new)
    await hub.behind()

    hub.deliver(new, reading(8))

    assert [old] == await anyone_behind(hub)
    hub.deliver(old, reading(8))
    assert await anyone_behind(hub) is None
    hub.ring([(FILE, Seq(9))])
    assert {old, new} == set(await anyone_behind(hub))


async def test_a_file_that_does_not_exist_is_said_once():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    await hub.behind()

    hub.deliver(one, None)

    hub.resume(one)

    assert [None] == one.readings
    assert await anyone_behind(hub) is None


async def test_what_is_handed_out_answers_a_doorbell_that_was_faster():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    await caught_up(hub, one, 1)
    hub.ring([(FILE, Seq(2))])

    hub.hand_out(FILE, reading(2))

    assert [1, 2] == one.seqs
    assert await anyone_behind(hub) is None


async def test_what_the_table_has_gone_beyond_is_read_and_not_handed_out():
    hub, one = Hub(), RecordingSubscriber()
    hub.add(one)
    await caught_up(hub, one, 1)
    hub.ring([(FILE, Seq(3))])

    hub.hand_out(FILE, reading(2))

    assert [1] == one.seqs
    assert [one] == await anyone_behind(hub)


async def test_a_reading_older_than_our_commit_does_not_hide_it_after_a_restore():
    hub, old, new = Hub(), RecordingSubscriber(), RecordingSubscriber(CURRENT)
    hub.add(old)
    await caught_up(hub, old, *range(1, 11))
    hub.add(new)
    await hub.behind()

    hub.hand_out(FILE, reading(9))
    hub.deliver(new, reading(8))

    assert [new] == await anyone_behind(hub)


async def test_a_reading_older_than_our_commit_does_not_hide_it_from_a_newcomer():
    hub, newcomer = Hub(), RecordingSubscriber(CURRENT)
    hub.add(newcomer)
    await hub.behind()

    hub.hand_out(FILE, reading(2))
    hub.deliver(newcomer, reading(1))

    assert [newcomer] == await anyone_behind(hub)


def test_what_is_handed_out_for_a_file_nobody_waits_for_keeps_nothing():
    hub = Hub()

    hub.hand_out(FILE, reading(1))

    assert_empty(hub)


async def test_nobody_waits_for_a_crowd_unless_told_to():
    hub = Hub()
    crowd = {RecordingSubscriber(file_id=f"f-{n}") for n in range(CROWD)}
    for one in crowd:
        hub.add(one)

    assert crowd == set(await anyone_behind(hub) or ())


async def test_of_a_file_that_lost_events_all_but_who_is_behind_are_read_again():
    """Who stands at its end now may have to hear that it is the end."""
    hub = Hub()
    ahead, even = RecordingSubscriber(7), RecordingSubscriber(5)
    behind, stranger = RecordingSubscriber(4), RecordingSubscriber(7, file_id="f-2")
    with joined(hub, ahead, even, behind, stranger):
        await hub.behind()

        hub.mistrust({FILE: Seq(5), FileId("f-3"): Seq(1)})

        assert {ahead, even} == set(await anyone_behind(hub))
        hub.deliver(ahead, reading(5, head=5))
        hub.deliver(even, Reading(head=Seq(5), owner=None, events=()))
        assert 5 == ahead.cursor
        assert [behind] == await anyone_behind(hub)
