import asyncio
from collections.abc import Sequence

import pytest

from gateway import lifecycle
from gateway.errors import UnavailableError
from gateway.model import FileId, Outcome, Seq, Status
from gateway.store.append import Answer, Incoming
from tests.unit.gateway.fakes import NOW, record, settle
from workers import reconciler
from workers.reconciler import MAX_SWEEP_FILES, SENDER, Reconciler, _ending

SILENT = [status for status in Status if not status.terminal]


class FakeStore:
    """Both what finds overdue files and what writes their end."""

    def __init__(self, *found: list[tuple[FileId, Status, Seq]]) -> None:
        self.found = list(found)
        self.asked = 0
        self.written: list[Incoming] = []
        self.away = False

    async def overdue(self, limit: int) -> list[tuple[FileId, Status, Seq]]:
        assert MAX_SWEEP_FILES == limit
        self.asked += 1
        if self.away:
            raise UnavailableError("the database is away")
        return self.found.pop(0) if self.found else []

    async def append(self, batch: Sequence[Incoming]) -> list[Answer]:
        self.written += batch
        return [Answer(Outcome.APPLIED, Seq(2)) for _ in batch]

    def reconciler(self) -> Reconciler:
        return Reconciler(self.overdue, self.append)


def overdue(count: int) -> list[tuple[FileId, Status, Seq]]:
    return [(FileId(f"f-{n}"), Status.UPLOADED, Seq(2)) for n in range(count)]


@pytest.mark.parametrize(
    ("status", "end", "code"),
    [
        (Status.AWAITING_UPLOAD, Status.EXPIRED, "upload_never_came"),
        (Status.UPLOADED, Status.FAILED, "conversion_never_started"),
        (Status.CONVERTING, Status.FAILED, "conversion_never_reported"),
    ],
)
def test_silence_ends_a_file_with_the_reason_of_its_stage(status, end, code):
    ending = _ending(FileId("f-1"), status, Seq(1))

    state = lifecycle.apply(record(status=status), ending.report, NOW).state

    assert (end, code, True) == (state.status, state.error.code, state.error.retryable)
    assert (SENDER, None) == (ending.report.sender, ending.webhook_id)


def test_every_stage_that_has_a_deadline_has_an_ending():
    assert set(SILENT) == set(reconciler._ENDINGS)


async def test_a_sweep_ends_what_it_found_only_as_it_was_found():
    found = [("f-1", Status.UPLOADED, Seq(2)), ("f-2", Status.CONVERTING, Seq(7))]
    store = FakeStore(found)

    assert 2 == await store.reconciler().sweep()

    assert [("f-1", 2), ("f-2", 7)] == [
        (one.file_id, one.if_seq) for one in store.written
    ]


async def test_a_sweep_that_finds_nothing_writes_nothing():
    store = FakeStore([])

    assert 0 == await store.reconciler().sweep()

    assert [] == store.written


async def test_a_heap_of_overdue_files_is_ended_without_a_pause():
    store = FakeStore(overdue(MAX_SWEEP_FILES), overdue(MAX_SWEEP_FILES), overdue(3))
    stop = asyncio.Event()
    work = asyncio.create_task(store.reconciler().run(stop))

    await settle()
    assert (3, 2 * MAX_SWEEP_FILES + 3) == (store.asked, len(store.written))

    stop.set()
    await asyncio.wait_for(work, 5)


async def test_between_sweeps_it_pauses_and_a_stop_is_heard_at_once():
    store = FakeStore()
    stop = asyncio.Event()
    work = asyncio.create_task(store.reconciler().run(stop))
    await settle()
    assert 1 == store.asked

    stop.set()
    await asyncio.wait_for(work, 5)

    assert 1 == store.asked


async def test_a_database_that_is_away_is_waited_out(monkeypatch):
    monkeypatch.setattr(reconciler, "SWEEP_INTERVAL_S", 0)
    store = FakeStore(overdue(1))
    store.away = True
    stop = asyncio.Event()
    work = asyncio.create_task(store.reconciler().run(stop))
    await settle()
    assert store.asked > 1

    store.away = False
    await settle()
    stop.set()
    await asyncio.wait_for(work, 5)

    assert ["f-0"] == [one.file_id for one in store.written]
