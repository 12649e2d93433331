import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from gateway import lifecycle
from gateway.config import Config
from gateway.errors import RejectedError, UnavailableError
from gateway.model import FileId, FileState, Outcome, Report, ReportType, Seq, Status
from gateway.store.append import Answer, Incoming
from gateway.store.silent import UNANSWERED_LIFE, SilentFile
from tests.unit.gateway.fakes import NOW, record, settle
from workers import reconciler
from workers.reconciler import (
    AGAIN,
    LONGEST_SILENCE,
    MAX_JOB_AGE,
    MAX_SWEEP_FILES,
    PATIENCE,
    SWEEP_INTERVAL_S,
    Reconciler,
    _ending,
)
from workers.upstream import MAX_ASK_S, MAX_INVOKE_S, SENDER, Finding

SILENT = [status for status in Status if not status.terminal]
SECOND = timedelta(seconds=1)
OVER, NOT_OVER = SECOND, -SECOND
LONG_OVER = timedelta(hours=7)
AWAY = Finding(unknown="AWS is away")
ALIVE = Finding(alive=True)
UNASKED = Finding(unknown="TimeoutError", unasked=True)
UPLOADED = Report(type=ReportType.UPLOADED, occurred_at=NOW, sender=SENDER)
PROGRESS = Report(type=ReportType.PROGRESS, occurred_at=NOW, sender=SENDER)
COMPLETED = Report(type=ReportType.COMPLETED, occurred_at=NOW, sender=SENDER)


class Fakes:
    """What finds silent files, what is known of them, and what writes."""

    def __init__(
        self, *found: list[SilentFile], finding: Finding | None = None
    ) -> None:
        self.found = list(found)
        self.finding = finding or Finding()
        self.outcome = Outcome.APPLIED
        self.claims = 0
        self.written: list[Incoming] = []
        self.converted: list[FileId] = []
        self.put: list[SilentFile] = []
        self.believed: list[timedelta | None] = []
        self.rejected: set[str] = set()
        self.unwritable: set[ReportType] = set()
        self.in_vain: list[SilentFile] = []
        self.at_work: dict[FileId, Seq] = {}
        self.away = False

    async def claim(self, limit: int) -> list[SilentFile]:
        assert MAX_SWEEP_FILES == limit
        self.claims += 1
        if self.away:
            raise UnavailableError("the database is away")
        return self.found.pop(0) if self.found else []

    async def put_off(
        self, files: Sequence[SilentFile], *, believed: timedelta | None = None
    ) -> None:
        self.put += files
        self.believed += [believed for _ in files]

    async def note_at_work(
        self, heads: Mapping[FileId, Seq], *, believed: timedelta
    ) -> None:
        assert MAX_JOB_AGE == believed
        self.at_work |= heads

    async def note_unanswered(self, files: Sequence[SilentFile]) -> None:
        self.in_vain += files

    async def ask(self, files: Sequence[object]) -> list[Finding]:
        return [self.finding for _ in files]

    async def convert(self, states: Sequence[FileState]) -> None:
        self.converted += [state.id for state in states]

    async def append(self, batch: Sequence[Incoming]) -> list[Answer]:
        if any(
            one.file_id in self.rejected or one.report.type in self.unwritable
            for one in batch
        ):
            raise RejectedError("not this one")
        self.written += batch
        return [Answer(self.outcome, Seq(2)) for _ in batch]

    def reconciler(self) -> Reconciler:
        return Reconciler(self, self, self.append)

    @property
    def said(self) -> list[ReportType]:
        return [one.report.type for one in self.written]


def silent(
    file_id="f-1", status=Status.CONVERTING, late=NOT_OVER, seq=1, unanswered=None
) -> SilentFile:
    found = record(id=FileId(file_id), status=status, seq=Seq(seq))
    return SilentFile(found, late, NOW + AGAIN, unanswered)


def many(count: int) -> list[SilentFile]:
    return [silent(f"f-{n}", late=OVER) for n in range(count)]


@pytest.mark.parametrize(
    ("status", "end", "code"),
    [
        (Status.AWAITING_UPLOAD, Status.EXPIRED, "upload_never_came"),
        (Status.UPLOADED, Status.FAILED, "conversion_never_started"),
        (Status.CONVERTING, Status.FAILED, "conversion_never_reported"),
    ],
)
def test_silence_ends_a_file_with_the_reason_of_its_stage(status, end, code):
    ending = _ending(silent(status=status))

    state = lifecycle.apply(record(status=status), ending.report, NOW).state

    assert (end, code, True) == (state.status, state.error.code, state.error.retryable)
    assert (SENDER, None) == (ending.report.sender, ending.webhook_id)


def test_every_stage_that_has_a_deadline_has_an_ending():
    assert set(SILENT) == set(reconciler._ENDINGS)


async def test_a_file_is_ended_only_as_it_was_found():
    found = [silent("f-1", seq=2, late=OVER), silent("f-2", seq=7, late=OVER)]
    fakes = Fakes(found)

    assert 2 == await fakes.reconciler().sweep()

    assert {("f-1", 2), ("f-2", 7)} == {
        (one.file_id, one.if_seq) for one in fakes.written
    }


@pytest.mark.parametrize(
    ("late", "finding", "ends"),
    [
        (NOT_OVER, Finding(), False),
        (NOT_OVER, AWAY, False),
        (OVER, Finding(), True),
        (OVER, Finding(unstarted=True), True),
        (LONG_OVER, AWAY, False),
        (LONG_OVER, UNASKED, False),
        (OVER, Finding(reports=(PROGRESS,), alive=True), False),
        (MAX_JOB_AGE + SECOND, Finding(reports=(PROGRESS,), alive=True), True),
        # It said what is known already: nothing can come of asking again.
        (OVER, Finding(reports=(COMPLETED,)), True),
        (NOT_OVER, Finding(reports=(COMPLETED,)), False),
    ],
)
async def test_when_silence_is_the_end(late, finding, ends):
    fakes = Fakes([silent(late=late)], finding=finding)
    fakes.outcome = Outcome.STALE

    await fakes.reconciler().sweep()

    assert ends == (ReportType.FAILED in fakes.said)


def test_a_file_ends_ten_minutes_after_its_deadline_whatever_aws_does():
    """
    Its deadline passes when a sweep has begun, so it waits for that to be over.  It
    is found once more before its patience is over; when it may be found again,
    another sweep has begun, and then it is asked about for the last time.
    """
    asking = timedelta(seconds=MAX_ASK_S)
    sweep = asking + timedelta(seconds=MAX_INVOKE_S + 1.2 * SWEEP_INTERVAL_S)

    assert sweep + PATIENCE + AGAIN + sweep + asking <= timedelta(minutes=10)


def test_that_there_was_no_answer_is_remembered_until_it_ends_a_file():
    """Whoever is answered forgets it."""
    sweep = timedelta(seconds=MAX_ASK_S + MAX_INVOKE_S + 1.2 * SWEEP_INTERVAL_S)

    assert PATIENCE + AGAIN + sweep < UNANSWERED_LIFE


def test_what_was_lost_is_found_ten_minutes_later_though_a_worker_dies():
    """
    It is lost right after a look.  The next worker dies when it has found the file,
    and the one after it has a sweep under way and asks about this file last.
    """
    rest = timedelta(seconds=1.2 * SWEEP_INTERVAL_S)
    asking = timedelta(seconds=MAX_ASK_S)
    sweep = asking + timedelta(seconds=MAX_INVOKE_S)
    silence = timedelta(seconds=Config.__dataclass_fields__["silence_seconds"].default)

    longest = 1.2 * LONGEST_SILENCE * silence
    assert longest + rest + AGAIN + sweep + rest + asking <= timedelta(minutes=10)


@pytest.mark.parametrize(
    ("unanswered", "finding", "ends"),
    [
        (None, AWAY, False),
        (PATIENCE, AWAY, False),
        (PATIENCE + SECOND, AWAY, True),
        (PATIENCE + SECOND, UNASKED, False),
        (PATIENCE + SECOND, ALIVE, False),
        # Another worker was told that its job is at work.
        (-SECOND, AWAY, False),
        (-SECOND, Finding(), True),
    ],
)
async def test_patience_begins_when_aws_does_not_answer_and_not_at_the_deadline(
    unanswered, finding, ends
):
    found = silent(late=LONG_OVER, unanswered=unanswered)
    fakes = Fakes([found], finding=finding)

    await fakes.reconciler().sweep()

    assert ends == (ReportType.FAILED in fakes.said)


@pytest.mark.parametrize(
    ("late", "unanswered", "finding", "noted"),
    [
        (OVER, None, AWAY, True),
        # The first time counts.
        (OVER, SECOND, AWAY, False),
        (NOT_OVER, None, AWAY, False),
        # What there was no time to ask is no answer.
        (OVER, None, UNASKED, False),
        (OVER, None, ALIVE, False),
        (OVER, None, Finding(), False),
        # Another worker was told that its job is at work.
        (OVER, -SECOND, AWAY, False),
    ],
)
async def test_that_there_was_no_answer_is_noted_once(late, unanswered, finding, noted):
    found = silent(late=late, unanswered=unanswered)
    fakes = Fakes([found], finding=finding)

    await fakes.reconciler().sweep()

    assert ([found] if noted else []) == fakes.in_vain


async def test_when_there_is_no_time_for_all_it_is_not_always_for_the_same():
    found = many(50)
    asked = []
    fakes = Fakes(list(found), list(found))

    async def ask(files):
        asked.append([file.state.id for file in files])
        return [UNASKED for _ in files]

    fakes.ask = ask
    worker = fakes.reconciler()
    await worker.sweep()
    await worker.sweep()

    first, second = asked
    assert sorted(first) == sorted(second)
    assert first != second


async def test_a_lost_report_is_passed_on_and_ends_nothing():
    fakes = Fakes([silent(late=OVER)], finding=Finding(reports=(COMPLETED,)))

    await fakes.reconciler().sweep()

    assert [(COMPLETED, None, None)] == [
        (one.report, one.if_seq, one.webhook_id) for one in fakes.written
    ]


@pytest.mark.parametrize(
    ("unanswered", "noted", "ends"),
    [
        (None, True, False),
        (-SECOND, True, False),
        (PATIENCE, False, False),
        (PATIENCE + SECOND, False, True),
    ],
)
async def test_what_cannot_be_written_is_not_silence_until_patience_is_over(
    unanswered, noted, ends
):
    """Its job has said how it ended; but every file ends."""
    found = silent(late=LONG_OVER, unanswered=unanswered)
    fakes = Fakes([found], finding=Finding(reports=(COMPLETED,)))
    fakes.unwritable = {ReportType.COMPLETED}

    await fakes.reconciler().sweep()

    assert [ReportType.FAILED] * ends == fakes.said
    assert [found] * noted == fakes.in_vain
    assert [] == fakes.put


async def test_what_cannot_be_written_is_soon_tried_again():
    fakes = Fakes([silent(late=NOT_OVER)], finding=Finding(reports=(COMPLETED,)))
    fakes.unwritable = {ReportType.COMPLETED}

    await fakes.reconciler().sweep()

    assert [] == [*fakes.put, *fakes.in_vain, *fakes.written]


async def test_a_job_that_runs_is_no_silence_though_its_progress_cannot_be_written():
    found = silent(late=LONG_OVER, unanswered=PATIENCE + SECOND)
    fakes = Fakes([found], finding=Finding(reports=(PROGRESS,), alive=True))
    fakes.unwritable = {ReportType.PROGRESS}

    await fakes.reconciler().sweep()

    assert [found] == fakes.put
    assert [] == [*fakes.in_vain, *fakes.written]


@pytest.mark.parametrize(
    ("late", "finding", "converts"),
    [
        (NOT_OVER, Finding(unstarted=True), True),
        (OVER, Finding(unstarted=True, reports=(UPLOADED,)), True),
        (OVER, Finding(unstarted=True), False),
        (NOT_OVER, Finding(), False),
    ],
)
async def test_when_an_upload_is_converted_again(late, finding, converts):
    file = silent(status=Status.UPLOADED, late=late)
    fakes = Fakes([file], finding=finding)

    await fakes.reconciler().sweep()

    assert ["f-1"] * converts == fakes.converted


async def test_a_file_the_database_will_not_take_does_not_hold_up_others():
    fakes = Fakes(many(3))
    fakes.rejected = {"f-1"}

    assert 3 == await fakes.reconciler().sweep()

    assert ["f-0", "f-2"] == sorted(one.file_id for one in fakes.written)


async def test_a_file_is_put_off_after_it_was_looked_into():
    over, not_over = silent("f-1", late=OVER), silent("f-2")
    fakes = Fakes([over], [not_over], finding=ALIVE)
    worker = fakes.reconciler()

    await worker.sweep()
    await worker.sweep()

    assert [over, not_over] == fakes.put
    assert [MAX_JOB_AGE] * 2 == fakes.believed


@pytest.mark.parametrize("outcome", Outcome)
async def test_a_job_at_work_is_believed_whether_or_not_that_was_news(outcome):
    file = silent("f-1")
    fakes = Fakes([file], finding=Finding(reports=(PROGRESS,), alive=True))
    fakes.outcome = outcome

    await fakes.reconciler().sweep()

    is_news = outcome is Outcome.APPLIED
    assert [file][is_news:] == fakes.put
    assert ({"f-1": 2} if is_news else {}) == fakes.at_work


async def test_a_file_without_a_job_is_put_off_and_nothing_believed_of_it():
    idle = silent(status=Status.AWAITING_UPLOAD)
    fakes = Fakes([idle])

    await fakes.reconciler().sweep()

    assert ([idle], [None]) == (fakes.put, fakes.believed)


async def test_a_file_that_is_ended_is_not_put_off():
    fakes = Fakes(many(2))

    await fakes.reconciler().sweep()

    assert [] == fakes.put


async def test_a_file_of_which_nothing_was_learned_is_soon_asked_about_again():
    fakes = Fakes(many(2), finding=AWAY)

    await fakes.reconciler().sweep()

    assert [] == fakes.put


async def test_a_sweep_that_finds_nothing_writes_nothing():
    fakes = Fakes([])

    assert 0 == await fakes.reconciler().sweep()

    assert [] == fakes.written


async def test_a_heap_of_silent_files_is_looked_into_without_a_pause():
    fakes = Fakes(many(MAX_SWEEP_FILES), many(MAX_SWEEP_FILES), many(3))
    stop = asyncio.Event()
    work = asyncio.create_task(fakes.reconciler().run(stop))

    async with asyncio.timeout(10):
        while len(fakes.written) < 2 * MAX_SWEEP_FILES + 3:
            await settle()
    assert 3 == fakes.claims

    stop.set()
    await asyncio.wait_for(work, 5)


async def test_between_sweeps_it_pauses_and_a_stop_is_heard_at_once():
    fakes = Fakes()
    stop = asyncio.Event()
    work = asyncio.create_task(fakes.reconciler().run(stop))
    await settle()
    assert 1 == fakes.claims

    stop.set()
    await asyncio.wait_for(work, 5)

    assert 1 == fakes.claims


async def test_a_stop_does_not_wait_for_aws():
    fakes = Fakes(many(1))
    asking = asyncio.Event()

    async def ask_for_ever(_file):
        asking.set()
        await asyncio.Event().wait()

    fakes.ask = ask_for_ever
    stop = asyncio.Event()
    work = asyncio.create_task(fakes.reconciler().run(stop))
    await asking.wait()

    stop.set()
    await asyncio.wait_for(work, 5)

    assert [] == fakes.written


async def test_what_a_sweep_raises_is_not_hidden():
    fakes = Fakes(many(1))

    async def broken(_limit):
        raise ZeroDivisionError

    fakes.claim = broken
    with pytest.raises(ZeroDivisionError):
        await fakes.reconciler().run(asyncio.Event())


async def test_a_database_that_is_away_is_waited_out(monkeypatch):
    monkeypatch.setattr(reconciler, "SWEEP_INTERVAL_S", 0)
    fakes = Fakes(many(1))
    fakes.away = True
    stop = asyncio.Event()
    work = asyncio.create_task(fakes.reconciler().run(stop))
    await settle()
    assert fakes.claims > 1

    fakes.away = False
    await settle()
    stop.set()
    await asyncio.wait_for(work, 5)

    assert ["f-0"] == [one.file_id for one in fakes.written]
