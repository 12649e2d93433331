"""Our own commits: delivered from memory, and never twice."""

from gateway import feed as feed_module
from gateway.model import FileId, Seq
from tests.unit.gateway.fakes import FILE, FakeHistory, RecordingSubscriber, settle
from tests.unit.gateway.feeding import feeding, ring, written

NOBODYS = FileId("nobodys")


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


async def test_a_reading_that_our_commit_overtook_still_tells_what_is_newer(hub):
    """The doorbell of 3 was lost."""
    history, one = FakeHistory({FILE: 1}), RecordingSubscriber(1)
    async with feeding(hub, history):
        hub.add(one)
        await settle()

        def we_commit_meanwhile() -> None:
            history.during_read = lambda: None
            hub.hand_out(FILE, written(2))

        history.during_read = we_commit_meanwhile
        history.heads[FILE] = 3
        ring(hub, 2)
        await settle()

    assert [2, 3] == one.seqs


async def test_the_doorbell_of_what_was_handed_out_asks_for_no_read(hub):
    """Not even for somebody whose socket is full of it."""

    class Writer(RecordingSubscriber):
        def deliver(self, reading):
            self.stalled = True

    history, one = FakeHistory({FILE: 1}), Writer()
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()
        one.cursor = 1
        hub.resume(one)
        feed.committing([FILE])
        history.heads[FILE] = 2

        feed.ring([(FILE, Seq(2))])
        feed.committed({FILE: written(2)})
        await settle()
        one.cursor = 2
        hub.resume(one)
        await settle()

    assert 1 == len(history.reads)


async def test_a_commit_that_failed_rings_nobody_however_often_it_is_said(hub):
    history, one = FakeHistory({}), RecordingSubscriber()
    async with feeding(hub, history) as feed:
        hub.add(one)
        await settle()
        feed.committing([FILE])
        for _ in range(2):
            feed.interrupted([FILE])
        await settle()

    assert [None] == one.readings
    assert 1 == len(history.reads)


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
    assert ["cannot deliver f-1; it is read again"] == caplog.messages


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


class Pushes:
    """What the feed tells of pushes, instead of sending it somewhere."""

    def __init__(self):
        self.told = []

    def pushed(self, file_id, events, began_ns, *, subscribers, by):
        assert began_ns > 0
        self.told.append((file_id, [event.seq for event in events], subscribers, by))


async def test_a_trace_is_told_who_was_given_what_and_how_it_was_known(hub):
    history, tracing = FakeHistory({FILE: 1}), Pushes()
    everybody = [RecordingSubscriber(1), RecordingSubscriber(1)]
    async with feeding(hub, history, tracing) as feed:
        for one in everybody:
            hub.add(one)
        hub.add(RecordingSubscriber(-1))
        await settle()
        assert [] == [told for told in tracing.told if told[1]]
        tracing.told.clear()

        feed.committing([FILE, NOBODYS])
        history.heads[FILE] = 2
        feed.committed({FILE: written(2), NOBODYS: written(2)})
        await settle()
        history.heads[FILE] = 4
        ring(hub, 4)
        await settle()

    assert [(FILE, [2], 3, "commit"), (FILE, [3, 4], 3, "doorbell")] == tracing.told
