import asyncio

import pytest

from gateway.hub import CROWD, MAX_PAGES, Hub, Subscriber
from gateway.model import Event, FileId, Reading, Seq
from gateway.protocol.cursor import CURRENT, UNKNOWN
from tests.unit.gateway.fakes import FILE, RecordingSubscriber, joined, settle


def reading(*seqs: int, head: int | None = None) -> Reading:
    return Reading(
        head=Seq(head or seqs[-1]),
        owner=None,
        events=tuple(Event(Seq(seq), b"{}", b"") for seq in seqs),
    )


async def anyone_behind(hub: Hub) -> list[Subscriber] | None:
    """Who is behind now; None if the hub would have to wait for somebody."""
    waiting = asyncio.ensure_future(hub.behind())
    await settle()
    if not waiting.done():
        waiting.cancel()
        return None
    return waiting.result()


async def caught_up(hub: Hub, subscriber: RecordingSubscriber, *seqs: int) -> None:
    """Bring a subscriber to its file's head, as the feed would."""
    assert [subscriber] == await anyone_behind(hub)
    hub.deliver(subscriber, reading(*seqs))


def assert_empty(hub: Hub) -> None:
    assert 0 == len(hub)
    assert {} == hub._files
    assert {} == hub._behind


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


async def test_a_stalled_subscriber_is_left_alone_until_it_resumes():
    hub, one = Hub(), RecordingSubscriber(full_after=1)
    hub.add(one)
    await caught_up(hub, one, 1)
    hub.ring([(FILE, Seq(2))])
    hub.ring([(FILE, Seq(3))])
    assert await anyone_behind(hub) is None

    hub.resume(one)

    assert [one] == await anyone_behind(hub)


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


async def test_a_reading_for_somebody_who_left_goes_nowhere():
    hub, gone, stays = Hub(), RecordingSubscriber(), RecordingSubscriber()
    for one in (gone, stays):
        hub.add(one)
    await hub.behind()
    hub.remove(gone)

    for one in (gone, stays):
        hub.deliver(one, reading(1))

    assert ([], [1]) == (gone.seqs, stays.seqs)


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
