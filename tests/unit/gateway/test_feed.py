from itertools import combinations_with_replacement, product

import pytest

from gateway.feed import Feed
from gateway.model import Reading, Seq
from gateway.protocol.cursor import CURRENT, UNKNOWN
from gateway.store.history import MAX_PAGE_EVENTS
from gateway.telemetry import Metrics
from tests.unit.gateway.fakes import (
    FILE,
    FakeHistory,
    RecordingSubscriber,
    joined,
    settle,
)
from tests.unit.gateway.feeding import feeding, ring

SLOTS = ["registered", "added", "reading", "delivered"]
SCHEDULES = [
    (commits, rings)
    for commits, rings in product(combinations_with_replacement(SLOTS, 2), repeat=2)
    if all(
        SLOTS.index(stored) <= SLOTS.index(rung)
        for stored, rung in zip(commits, rings, strict=True)
    )
]
"""When two events are stored and rung, seen from a newcomer; never rung first."""


@pytest.mark.parametrize(("commits", "rings"), SCHEDULES)
async def test_whenever_an_event_is_stored_and_rung_it_is_delivered_once(
    hub, commits, rings
):
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber()

    def happen(slot: str) -> None:
        for seq, (stored, rung) in enumerate(zip(commits, rings, strict=True), 2):
            if stored == slot:
                history.heads[FILE] = seq
            if rung == slot:
                ring(hub, seq)

    def happen_during_the_first_read() -> None:
        history.during_read = lambda: None
        happen("reading")

    history.during_read = happen_during_the_first_read
    async with feeding(hub, history):
        happen("registered")
        hub.add(one)
        happen("added")
        await settle()
        happen("delivered")
        await settle()

    assert [1, 2, 3] == one.seqs


async def test_events_that_land_during_the_read_are_delivered_once(hub):
    """
    2 is in the history and rung meanwhile, 3 is rung only.
    """
    one = RecordingSubscriber()
    history = FakeHistory({FILE: 2})

    def commit_two_more() -> None:
        history.heads[FILE] = 3
        history.during_read = lambda: None
        ring(hub, 2, 3)

    history.during_read = commit_two_more
    async with feeding(hub, history):
        hub.add(one)
        await settle()

    assert [1, 2, 3] == one.seqs
    assert [[(FILE, 0)], [(FILE, 2)]] == history.reads


async def test_subscribers_that_arrive_together_share_one_read(hub):
    history = FakeHistory({FILE: 3, "f-2": 1})
    same = [RecordingSubscriber(2) for _ in range(50)]
    others = [RecordingSubscriber(1), RecordingSubscriber(CURRENT, file_id="f-2")]
    async with feeding(hub, history):
        for one in (*same, *others):
            hub.add(one)
        await settle()

    assert [{(FILE, 2), (FILE, 1), ("f-2", CURRENT)}] == list(map(set, history.reads))
    assert [[3]] * 50 + [[2, 3], [1]] == [one.seqs for one in (*same, *others)]


async def test_a_long_history_is_followed_page_by_page_to_its_head(hub):
    history, one = FakeHistory({FILE: 2 * MAX_PAGE_EVENTS + 7}), RecordingSubscriber()
    async with feeding(hub, history):
        hub.add(one)
        await settle()

    assert list(range(1, 2 * MAX_PAGE_EVENTS + 8)) == one.seqs
    assert [MAX_PAGE_EVENTS, MAX_PAGE_EVENTS, 7] == [
        len(reading.events) for reading in one.readings
    ]


async def test_a_stalled_subscriber_costs_no_read_and_loses_nothing(hub):
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber(full_after=1)
    async with feeding(hub, history):
        hub.add(one)
        await settle()
        for seq in range(2, 40):
            history.heads[FILE] = seq
            ring(hub, seq)
            await settle()
        assert (1, [1]) == (len(history.reads), one.seqs)

        hub.resume(one)
        await settle()

    assert list(range(1, 40)) == one.seqs
    assert 2 == len(history.reads)


async def test_a_stalled_subscriber_never_delays_another(hub):
    history = FakeHistory({FILE: 1})
    stalled, other = RecordingSubscriber(full_after=1), RecordingSubscriber()
    async with feeding(hub, history):
        with joined(hub, stalled, other):
            await settle()
            history.heads[FILE] = 2
            ring(hub, 2)
            await settle()

    assert [1, 2] == other.seqs


async def test_whoever_leaves_during_its_read_is_handed_nothing(hub):
    history = FakeHistory({FILE: 1})
    gone, stays = RecordingSubscriber(), RecordingSubscriber()
    history.during_read = lambda: hub.remove(gone)
    async with feeding(hub, history):
        for one in (gone, stays):
            hub.add(one)
        await settle()

    assert ([], [1]) == (gone.readings, stays.seqs)
    assert 1 == len(hub)


async def test_a_file_that_does_not_exist_is_said_to_its_subscriber(hub):
    nowhere, one = RecordingSubscriber(file_id="f-9"), RecordingSubscriber()
    async with feeding(hub, FakeHistory({FILE: 1})):
        for each in (nowhere, one):
            hub.add(each)
        await settle()

    assert [None] == nowhere.readings
    assert [1] == one.seqs


async def test_a_cursor_nobody_gave_out_gets_a_reset_and_the_current_state(hub):
    subscribers = [RecordingSubscriber(cursor) for cursor in (UNKNOWN, 4, 999_999_999)]
    async with feeding(hub, FakeHistory({FILE: 3})):
        for one in subscribers:
            hub.add(one)
        await settle()

    for one in subscribers:
        assert ["unknown_cursor"] == [reading.reset for reading in one.readings]
        assert [3] == one.seqs


async def test_pruned_events_are_a_reset_and_never_a_silent_gap(hub):
    history, one = FakeHistory({FILE: 9}), RecordingSubscriber(2)
    history.pruned[FILE] = 5
    async with feeding(hub, history):
        hub.add(one)
        await settle()

    assert ["pruned_cursor"] == [reading.reset for reading in one.readings]
    assert [9] == one.seqs


async def test_looking_delivers_what_was_never_rung(hub):
    history = FakeHistory({FILE: 1, "f-2": 1})
    missed, even = RecordingSubscriber(), RecordingSubscriber(file_id="f-2")
    async with feeding(hub, history) as feed:
        for one in (missed, even):
            hub.add(one)
        await settle()
        history.heads[FILE] = 3
        await settle()
        assert [1] == missed.seqs

        await feed.look()
        await settle()

    assert [1, 2, 3] == missed.seqs
    assert [{FILE: (1, 1), "f-2": (1, 1)}] == history.looks
    assert 2 == len(history.reads)


async def test_looking_resets_whoever_has_seen_what_the_table_lost(hub):
    history = FakeHistory({FILE: 7})
    one = RecordingSubscriber(CURRENT)
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()
        history.heads[FILE] = 5

        for _ in range(2):
            await feed.look()
            await settle()

    assert [7, 5] == one.seqs
    assert [None, "unknown_cursor"] == [reading.reset for reading in one.readings]
    assert [{FILE: (7, 7)}, {FILE: (5, 5)}] == history.looks


async def test_looking_for_nobody_asks_nothing(hub):
    history = FakeHistory({})

    await Feed(hub, history, Metrics()).look()

    assert [] == history.looks


def test_a_reading_says_when_nothing_can_follow():
    def final(head: int, *seqs: int) -> bool:
        history = FakeHistory({FILE: head})
        events = history._reading(FILE, seqs[0] - 1).events[: len(seqs)] if seqs else ()
        return Reading(head=Seq(head), owner=None, events=events, terminal=True).final

    assert final(3)
    assert final(3, 2, 3)
    assert not final(3, 1, 2)
