import asyncio
from collections.abc import Sequence
from contextlib import asynccontextmanager

import pytest

from gateway import ingest as ingest_module
from gateway.errors import NotFoundError, RejectedError, UnavailableError
from gateway.ingest import MAX_BATCH_REPORTS, Ingest
from gateway.model import Outcome, Report, ReportType, Seq
from gateway.store.append import Answer, Incoming
from gateway.telemetry import Metrics
from tests.unit.gateway.fakes import NOW, settle

UPLOADED = Report(type=ReportType.UPLOADED, occurred_at=NOW)


def incoming(number: int) -> Incoming:
    return Incoming(f"f-{number}", UPLOADED)


def answer(number: int) -> Answer:
    """Each its own: the seq is the number in the file id."""
    return Answer(Outcome.APPLIED, Seq(number))


class FakeAppend:
    """
    The write, from memory.

    Attributes:
        batches: The numbers of every transaction that began.
        going_on: Cleared, it holds transactions open.
        poison: Numbers that the database cannot take.
        on_poison: Runs before it says so.
        unknown: Numbers of files that are not there.
        away: Whether every transaction fails.
    """

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.going_on = asyncio.Event()
        self.going_on.set()
        self.poison: set[int] = set()
        self.on_poison = lambda: None
        self.unknown: set[int] = set()
        self.away = False

    async def __call__(self, batch: Sequence[Incoming]) -> list[object]:
        numbers = [int(one.file_id.removeprefix("f-")) for one in batch]
        self.batches.append(numbers)
        await self.going_on.wait()
        if self.away:
            raise UnavailableError("the database is away")
        if self.poison & set(numbers):
            self.on_poison()
            raise RejectedError("it has a value nobody can store")
        return [
            NotFoundError() if number in self.unknown else answer(number)
            for number in numbers
        ]


@pytest.fixture
async def append() -> FakeAppend:
    return FakeAppend()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@asynccontextmanager
async def writing(ingest: Ingest):
    work = asyncio.create_task(ingest.run())
    try:
        yield work
    finally:
        work.cancel()
        await asyncio.wait([work])


def submitted(ingest: Ingest, *numbers: int) -> list[asyncio.Task[Answer]]:
    return [asyncio.ensure_future(ingest.submit(incoming(one))) for one in numbers]


async def results(tasks: list[asyncio.Task[Answer]]) -> list[object]:
    async with asyncio.timeout(5):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lone_report_waits_for_nobody(append, metrics):
    ingest = Ingest(append, metrics)
    async with writing(ingest):
        assert [answer(7)] == await results(submitted(ingest, 7))

    assert [[7]] == append.batches


async def test_reports_that_come_during_a_transaction_share_the_next(append, metrics):
    ingest = Ingest(append, metrics)
    async with writing(ingest):
        append.going_on.clear()
        tasks = submitted(ingest, 1)
        await settle()
        tasks += submitted(ingest, 2, 3, 4)
        await settle()
        append.going_on.set()

        assert list(map(answer, (1, 2, 3, 4))) == await results(tasks)

    assert [[1], [2, 3, 4]] == append.batches


async def test_a_full_hand_is_shared_by_the_transactions_under_way(append, metrics):
    ingest = Ingest(append, metrics)
    append.going_on.clear()
    tasks = submitted(ingest, *range(100))
    async with writing(ingest):
        await settle()
        assert [50, 50] == list(map(len, append.batches))
        append.going_on.set()

        assert list(map(answer, range(100))) == await results(tasks)


async def test_a_file_is_in_one_transaction_at_a_time(append, metrics):
    ingest = Ingest(append, metrics)
    append.going_on.clear()
    async with writing(ingest):
        tasks = submitted(ingest, 1)
        await settle()
        tasks += submitted(ingest, 1, 2, 1)
        await settle()
        assert [[1], [2]] == append.batches
        append.going_on.set()

        assert list(map(answer, (1, 1, 2, 1))) == await results(tasks)

    assert [[1], [2], [1, 1]] == append.batches


async def test_the_reports_of_a_file_are_written_in_the_order_of_their_arrival(
    append, metrics
):
    written = []

    async def write(batch):
        written.extend(one.body for one in batch if one.file_id == "f-1")
        return await append(batch)

    def report(body: bytes) -> Incoming:
        return Incoming("f-1", UPLOADED, body=body)

    ingest = Ingest(write, metrics)
    append.going_on.clear()
    async with writing(ingest):
        tasks = [asyncio.ensure_future(ingest.submit(report(b"1")))]
        await settle()
        # It is held, as its file is being written; both are busy then.
        tasks.append(asyncio.ensure_future(ingest.submit(report(b"2"))))
        tasks += submitted(ingest, 2)
        await settle()
        tasks.append(asyncio.ensure_future(ingest.submit(report(b"3"))))
        await settle()
        append.going_on.set()
        await results(tasks)

    assert [b"1", b"2", b"3"] == written


async def test_the_end_refuses_who_waits_for_a_file_that_is_being_written(
    append, metrics
):
    ingest = Ingest(append, metrics)
    append.going_on.clear()
    async with writing(ingest):
        tasks = submitted(ingest, 1)
        await settle()
        tasks += submitted(ingest, 1)
        await settle()

    assert [UnavailableError] * 2 == list(map(type, await results(tasks)))


async def test_a_flood_is_written_in_bounded_transactions(append, metrics):
    ingest = Ingest(append, metrics)
    count = 3 * MAX_BATCH_REPORTS
    tasks = submitted(ingest, *range(count))
    async with writing(ingest):
        assert list(map(answer, range(count))) == await results(tasks)

    sizes = list(map(len, append.batches))
    assert [MAX_BATCH_REPORTS] * 2 == sizes[:2]
    assert MAX_BATCH_REPORTS == max(sizes)


async def test_an_unknown_file_is_refused_alone(append, metrics):
    ingest = Ingest(append, metrics)
    append.unknown = {2}
    tasks = submitted(ingest, 1, 2, 3)
    async with writing(ingest):
        one, two, three = await results(tasks)

    assert (answer(1), answer(3)) == (one, three)
    assert isinstance(two, NotFoundError)


async def test_a_report_the_database_cannot_take_fails_alone(append, metrics):
    ingest = Ingest(append, metrics)
    append.poison = {2}
    tasks = submitted(ingest, 1, 2, 3)
    async with writing(ingest):
        one, two, three = await results(tasks)
        assert [answer(4)] == await results(submitted(ingest, 4))

    assert (answer(1), answer(3)) == (one, three)
    assert isinstance(two, UnavailableError)
    assert [[1, 2, 3], [1], [2], [3], [4]] == append.batches


async def test_while_the_database_is_away_all_are_told_so_and_later_ones_heal(
    append, metrics
):
    ingest = Ingest(append, metrics)
    append.away = True
    async with writing(ingest):
        refused = await results(submitted(ingest, 1, 2))
        append.away = False
        assert [answer(3)] == await results(submitted(ingest, 3))

    assert [UnavailableError] * 2 == list(map(type, refused))


async def test_a_sender_that_hangs_up_disturbs_nobody_and_is_stored_all_the_same(
    append, metrics
):
    ingest = Ingest(append, metrics)
    async with writing(ingest):
        append.going_on.clear()
        under_way, *waiting = submitted(ingest, 1)
        await settle()
        waiting = submitted(ingest, 2, 3)
        await settle()
        for gone in (under_way, waiting[0]):
            gone.cancel()
        append.going_on.set()

        assert [answer(3)] == await results(waiting[1:])

    assert [[1], [2, 3]] == append.batches


async def test_a_queue_that_is_full_refuses_at_once(append, metrics, monkeypatch):
    monkeypatch.setattr(ingest_module, "MAX_WAITING_REPORTS", 2)
    ingest = Ingest(append, metrics)
    waiting = submitted(ingest, 1, 2)
    await settle()

    with pytest.raises(UnavailableError, match="too many"):
        await ingest.submit(incoming(3))

    async with writing(ingest):
        assert [answer(1), answer(2)] == await results(waiting)


async def test_nobody_waits_longer_than_that_whatever_is_under_way(
    append, metrics, monkeypatch
):
    """What was under way is stored later, what waited behind it is not: it comes again."""
    monkeypatch.setattr(ingest_module, "ANSWER_TIMEOUT_S", 0.01)
    monkeypatch.setattr(ingest_module, "_LATE_CHECK_S", 0.005)
    monkeypatch.setattr(ingest_module, "WRITERS", 1)
    ingest = Ingest(append, metrics)
    append.going_on.clear()
    async with writing(ingest):
        tasks = submitted(ingest, 1)
        await settle()
        tasks += submitted(ingest, 1, 2)

        assert [UnavailableError] * 3 == list(map(type, await results(tasks)))
        append.going_on.set()
        monkeypatch.setattr(ingest_module, "ANSWER_TIMEOUT_S", 60)
        assert [answer(2)] == await results(submitted(ingest, 2))

    assert [[1], [2]] == append.batches


async def test_who_was_refused_for_being_late_takes_no_room(
    append, metrics, monkeypatch
):
    monkeypatch.setattr(ingest_module, "ANSWER_TIMEOUT_S", 0.01)
    monkeypatch.setattr(ingest_module, "_LATE_CHECK_S", 0.005)
    monkeypatch.setattr(ingest_module, "MAX_WAITING_REPORTS", 3)
    ingest = Ingest(append, metrics)
    append.going_on.clear()
    async with writing(ingest):
        await results(submitted(ingest, 1, 1, 1))
        append.going_on.set()
        monkeypatch.setattr(ingest_module, "ANSWER_TIMEOUT_S", 60)
        await settle()

        assert list(map(answer, (4, 5, 6))) == await results(submitted(ingest, 4, 5, 6))


async def test_the_end_refuses_who_is_being_stored_and_who_waits(append, metrics):
    ingest = Ingest(append, metrics)
    append.going_on.clear()
    async with writing(ingest):
        tasks = submitted(ingest, 1)
        await settle()
        tasks += submitted(ingest, 2)
        await settle()

    assert [UnavailableError] * 2 == list(map(type, await results(tasks)))


async def test_the_end_refuses_the_rest_of_a_batch_that_is_written_one_by_one(
    append, metrics
):
    ingest = Ingest(append, metrics)
    append.poison = {1}
    append.on_poison = append.going_on.clear
    tasks = submitted(ingest, 1, 2, 3)
    async with writing(ingest):
        await settle()
        assert [[1, 2, 3], [1]] == append.batches

    assert [UnavailableError] * 3 == list(map(type, await results(tasks)))


async def test_after_the_end_nobody_waits_for_ever(append, metrics):
    ingest = Ingest(append, metrics)
    async with writing(ingest):
        await settle()

    with pytest.raises(UnavailableError):
        await asyncio.wait_for(ingest.submit(incoming(1)), 5)


async def test_a_fault_of_ours_ends_the_service_and_leaves_nobody_waiting(metrics):
    async def broken(_):
        raise KeyError("a fault of ours")

    ingest = Ingest(broken, metrics)
    tasks = submitted(ingest, 1)
    async with writing(ingest) as work:
        refused = await results(tasks)

    assert [UnavailableError] == list(map(type, refused))
    (fault,) = work.exception().exceptions
    assert isinstance(fault, KeyError)


async def test_outcomes_and_batches_are_counted(append, metrics):
    ingest = Ingest(append, metrics)
    tasks = submitted(ingest, 1, 2)
    async with writing(ingest):
        await results(tasks)

    value = metrics.registry.get_sample_value
    assert 2 == value("reelready_reports_total", {"outcome": "applied"})
    assert 1 == value("reelready_ingest_batch_reports_count")
    assert 2 == value("reelready_ingest_batch_reports_sum")
