"""Whatever happens in whatever order: nothing is lost, doubled or left behind."""

import asyncio

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

from gateway.feed import Feed
from gateway.hub import Hub
from gateway.model import Seq
from gateway.protocol.cursor import CURRENT
from gateway.telemetry import Metrics
from tests.unit.gateway.fakes import FakeHistory, RecordingSubscriber, settle
from tests.unit.gateway.feeding import written


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
        assert self.hub._behind.keys() <= set(held)

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
        assert {} == self.hub._behind


@pytest.mark.usefixtures("retries_at_once")
def test_any_order_of_events_keeps_every_subscriber_whole():
    run_state_machine_as_test(
        FeedMachine,
        settings=settings(max_examples=150, stateful_step_count=30),
    )
