import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway import feed as feed_module
from gateway.errors import UnavailableError
from gateway.feed import MAX_READ_CURSORS, Feed
from gateway.hub import CROWD, Hub
from gateway.model import Event, FileId, Reading, Seq
from gateway.protocol.cursor import CURRENT, UNKNOWN
from gateway.store.history import MAX_PAGE_EVENTS
from gateway.telemetry import Metrics
from tests.unit.gateway.fakes import FILE, FakeHistory, RecordingSubscriber, settle

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


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture(autouse=True)
def retries_at_once(monkeypatch):
    monkeypatch.setattr(feed_module, "_RETRY_S", (0,))


@asynccontextmanager
async def feeding(hub: Hub, history: FakeHistory) -> AsyncIterator[Feed]:
    feed = Feed(hub, history, Metrics())
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


async def test_a_storm_is_read_in_bounded_queries(hub):
    count = MAX_READ_CURSORS + 1
    history = FakeHistory({f"f-{n}": 1 for n in range(count)})
    storm = [RecordingSubscriber(file_id=f"f-{n}") for n in range(count)]
    async with feeding(hub, history):
        for one in storm:
            hub.add(one)
        await settle()

    assert [MAX_READ_CURSORS, 1] == list(map(len, history.reads))
    assert all([1] == one.seqs for one in storm)


async def test_a_long_history_is_followed_page_by_page_to_its_head(hub):
    history, one = FakeHistory({FILE: 2 * MAX_PAGE_EVENTS + 7}), RecordingSubscriber()
    async with feeding(hub, history):
        hub.add(one)
        await settle()

    assert list(range(1, 2 * MAX_PAGE_EVENTS + 8)) == one.seqs
    assert [500, 500, 7] == [len(reading.events) for reading in one.readings]


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
        with hub.joined(stalled, other):
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


async def test_while_the_database_is_away_newcomers_are_refused_and_others_wait(hub):
    history = FakeHistory({FILE: 1})
    seated = RecordingSubscriber(hub=hub)
    async with feeding(hub, history):
        hub.add(seated)
        await settle()
        history.away = True
        history.heads[FILE] = 2
        ring(hub, 2)
        newcomers = [RecordingSubscriber(one, hub=hub) for one in (CURRENT, UNKNOWN)]
        returning = RecordingSubscriber(1, hub=hub)
        for one in (*newcomers, returning):
            hub.add(one)
        await settle()
        assert [["refused"]] * 2 == [one.ends for one in newcomers]
        assert ([1], []) == (seated.seqs, returning.seqs)

        history.away = False
        await settle()

    assert ([1, 2], [2]) == (seated.seqs, returning.seqs)
    assert [] == seated.ends + returning.ends
    assert 2 == len(hub)


async def test_only_the_batch_that_failed_is_postponed(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "MAX_READ_CURSORS", 1)
    history = FakeHistory({FILE: 1})
    subscribers = [RecordingSubscriber(hub=hub) for _ in range(3)]

    def fail_the_second() -> None:
        history.away = len(history.reads) == 2

    history.during_read = fail_the_second
    async with feeding(hub, history):
        for one in subscribers:
            hub.add(one)
        await settle()

    assert [[1]] * 3 == [one.seqs for one in subscribers]


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
    assert [{FILE: 1, "f-2": 1}] == history.looks
    assert 2 == len(history.reads)


async def test_looking_for_nobody_asks_nothing(hub):
    history = FakeHistory({})

    await Feed(hub, history, Metrics()).look()

    assert [] == history.looks


async def test_looking_says_when_the_database_is_away(hub):
    history = FakeHistory({FILE: 1})
    history.away = True
    with hub.joined(RecordingSubscriber()), pytest.raises(UnavailableError):
        await Feed(hub, history, Metrics()).look()


async def test_what_this_process_commits_is_delivered_without_a_read(hub):
    history = FakeHistory({FILE: 1})
    ahead, level, stalled = (RecordingSubscriber(at) for at in (3, 1, 1))
    everybody = (ahead, level, stalled)
    async with feeding(hub, history) as feed:
        for one in everybody:
            hub.add(one)
        await settle()
        reads = len(history.reads)
        for one in everybody:
            one.seqs.clear()
        ahead.cursor = 3
        stalled.stalled = True
        feed.committing([FILE])
        history.heads[FILE] = 3

        feed.committed({FILE: written(2, 3)})
        await settle()
        feed.ring([(FILE, Seq(3))])
        await settle()

        assert [[], [2, 3], []] == [one.seqs for one in everybody]
        assert reads == len(history.reads)
        hub.resume(stalled)
        await settle()
        assert [2, 3] == stalled.seqs


async def test_a_doorbell_that_overtakes_the_end_of_our_commit_waits_for_it(hub):
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber(1)
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()
        reads = len(history.reads)
        feed.committing([FILE])
        history.heads[FILE] = 2

        feed.ring([(FILE, Seq(2))])
        await settle()
        assert [] == one.seqs
        feed.committed({FILE: written(2)})
        await settle()

    assert [2] == one.seqs
    assert reads == len(history.reads)


async def test_a_doorbell_that_waited_is_heard_when_our_commit_is_interrupted(hub):
    """It may have been committed, or the doorbell was another process's."""
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber(1)
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()
        feed.committing([FILE])
        history.heads[FILE] = 2
        feed.ring([(FILE, Seq(2))])

        feed.interrupted([FILE])
        await settle()
        assert [2] == one.seqs
        history.heads[FILE] = 3
        feed.ring([(FILE, Seq(3))])
        await settle()

    assert [2, 3] == one.seqs


async def test_a_newcomer_is_read_the_table_whatever_was_committed(hub):
    """Another process wrote meanwhile, and its doorbell was not heard yet."""
    history, one = FakeHistory({FILE: 3}), RecordingSubscriber(1)
    async with feeding(hub, history) as feed:
        feed.committing([FILE])
        hub.add(one)
        feed.committed({FILE: written(2)})
        await settle()

    assert [2, 3] == one.seqs


async def test_what_another_process_added_to_our_commit_is_read(hub):
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber(1)
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()
        feed.committing([FILE])
        history.heads[FILE] = 3

        feed.ring([(FILE, Seq(3))])
        feed.committed({FILE: written(2)})
        await settle()

    assert [2, 3] == one.seqs


async def test_a_reading_that_our_commit_overtook_is_not_delivered_again(hub):
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber(1)
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()

        def we_commit_meanwhile() -> None:
            history.during_read = lambda: None
            feed.committing([FILE])
            hub.hand_out(FILE, written(2))

        history.during_read = we_commit_meanwhile
        history.heads[FILE] = 2
        ring(hub, 2)
        await settle()

    assert [2] == one.seqs


async def test_what_delivering_raises_is_neither_the_writers_nor_other_files(
    hub, caplog
):
    class Broken(RecordingSubscriber):
        broken = False

        def deliver(self, reading):
            if self.broken:
                self.broken = False
                raise RuntimeError
            super().deliver(reading)

    history = FakeHistory({FILE: 1, "f-2": 1})
    one, other = Broken(0), RecordingSubscriber(0, file_id="f-2")
    async with feeding(hub, history) as feed:
        for each in (one, other):
            hub.add(each)
        await settle()
        one.broken = True
        history.heads = {FILE: 2, "f-2": 2}

        feed.committing([FILE, FileId("f-2")])
        feed.committed({FILE: written(2), FileId("f-2"): written(2)})
        await settle()

    assert [1, 2] == one.seqs == other.seqs
    assert {} == feed._committing
    assert "cannot deliver f-1" in caplog.text


async def test_a_doorbell_does_not_wait_for_a_commit_that_is_stuck(hub, monkeypatch):
    monkeypatch.setattr(feed_module, "HOLD_S", 0)
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber(1)
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()
        feed.committing([FILE])
        history.heads[FILE] = 2
        feed.ring([(FILE, Seq(2))])
        await settle()
        history.heads[FILE] = 3
        feed.ring([(FILE, Seq(3))])
        await settle()

    assert [2, 3] == one.seqs


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


def written(*seqs: int) -> Reading:
    """What one transaction wrote of one file."""
    events = tuple(Event(Seq(seq), b"{}", b"") for seq in seqs)
    return Reading(head=Seq(seqs[-1]), owner=None, events=events)


class FeedMachine(RuleBasedStateMachine):
    """
    Whatever happens, each subscriber gets each event after its cursor once, in
    order, as soon as it can take it and the database is there.
    """

    subscribers = Bundle("subscribers")
    files = st.sampled_from(["f-1", "f-2"])

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.hub = Hub()
        self.history = FakeHistory({"f-1": 1, "f-2": 5}, page=3)
        self.feed = Feed(self.hub, self.history, Metrics())
        self.work = self.loop.create_task(self.feed.run())
        self.starts: dict[RecordingSubscriber, int] = {}
        self.missed_a_ring = False
        self.under_way: set[str] = set()
        self.run()

    def run(self) -> None:
        self.loop.run_until_complete(settle())

    def call(self, function, *arguments) -> None:
        async def inside() -> None:
            function(*arguments)

        self.loop.run_until_complete(inside())

    @rule(file=files, count=st.integers(1, 8), rung=st.booleans())
    def another_process_commits(self, file, count, rung):
        self.history.heads[file] += count
        if rung:
            self.ring(file, 0)
        else:
            self.missed_a_ring = True

    @rule(file=files)
    def we_begin_to_commit(self, file):
        if file not in self.under_way:
            self.under_way.add(file)
            self.call(self.feed.committing, [file])

    @rule(
        file=files,
        count=st.integers(1, 8),
        rung=st.booleans(),
        end=st.sampled_from(["answered", "answer lost", "failed"]),
    )
    def we_end(self, file, count, rung, end):
        if file not in self.under_way:
            return
        self.under_way.remove(file)
        if end != "failed":
            before = self.history.heads[file]
            self.history.heads[file] += count
            if rung:
                self.ring(file, 0)
        if end == "answered":
            seqs = range(before + 1, before + count + 1)
            self.call(self.feed.committed, {file: written(*seqs)})
            return
        self.call(self.feed.interrupted, [file])
        if end == "answer lost" and not rung:
            self.missed_a_ring = True

    @rule(file=files, back=st.integers(0, 4))
    def ring(self, file, back):
        self.feed.ring([(file, Seq(max(0, self.history.heads[file] - back)))])

    @rule()
    def look(self):
        if not self.history.away:
            self.loop.run_until_complete(self.feed.look())

    @rule(target=subscribers, file=files, cursor=st.integers(CURRENT, 9))
    def subscribe(self, file, cursor):
        one = RecordingSubscriber(
            min(cursor, self.history.heads[file]), hub=self.hub, file_id=file
        )
        self.starts[one] = one.cursor
        self.hub.add(one)
        return one

    @rule(one=subscribers, after=st.integers(0, 2))
    def stall(self, one, after):
        one.stalled = not after
        one.full_after = len(one.readings) + after

    @rule(one=subscribers)
    def resume(self, one):
        self.hub.resume(one)

    @rule(one=consumes(subscribers))
    def leave(self, one):
        self.hub.remove(one)
        self.starts.pop(one, None)
        one.seqs.clear()

    @rule(held=st.booleans())
    def hold_reads(self, held):
        if held:
            self.history.going_on.clear()
            self.run()
        else:
            self.history.going_on.set()

    @rule(away=st.booleans())
    def lose_or_find_the_database(self, away):
        self.history.away = away

    @rule()
    def let_time_pass(self):
        self.run()

    @invariant()
    def nobody_gets_a_gap_or_an_event_twice(self):
        for one, start in self.starts.items():
            first = start + 1 if start != CURRENT else (one.seqs or [0])[0]
            assert list(range(first, first + len(one.seqs))) == one.seqs

    @invariant()
    def the_hub_counts_whom_it_holds(self):
        held = [one for file in self.hub._files.values() for one in file.subscribers]
        assert len(held) == len(self.hub)
        assert self.hub._behind <= set(held)

    def teardown(self):
        self.history.away = False
        self.history.going_on.set()
        for one in self.starts:
            one.full_after = None
            self.hub.resume(one)
        self.call(self.feed.interrupted, self.under_way)
        self.run()
        assert {} == self.feed._committing
        if self.missed_a_ring:
            self.look()
            self.run()
        self.nobody_gets_a_gap_or_an_event_twice()
        for one in self.starts:
            if not one.ends:
                assert self.history.heads[one.file_id] == one.cursor
            self.hub.remove(one)
        reads = len(self.history.reads)
        self.run()
        self.work.cancel()
        self.run()
        self.loop.close()
        assert reads == len(self.history.reads), "it reads for nobody"
        assert 0 == len(self.hub)
        assert {} == self.hub._files
        assert set() == self.hub._behind


def test_any_order_of_events_keeps_every_subscriber_whole():
    run_state_machine_as_test(
        FeedMachine,
        settings=settings(max_examples=150, stateful_step_count=30),
    )


def test_a_reading_says_when_nothing_can_follow():
    def final(head: int, *seqs: int) -> bool:
        history = FakeHistory({FILE: head})
        events = history._reading(FILE, seqs[0] - 1).events[: len(seqs)] if seqs else ()
        return Reading(head=Seq(head), owner=None, events=events, terminal=True).final

    assert final(3)
    assert final(3, 2, 3)
    assert not final(3, 1, 2)
