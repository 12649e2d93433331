import msgspec
import pytest

from gateway.errors import NotFoundError, WebhookReusedError
from gateway.lifecycle import MIN_PROGRESS_INTERVAL
from gateway.model import Outcome, Report, ReportType, Seq, Status
from gateway.store.append import Answer, Incoming, _Batch
from tests.unit.gateway.fakes import FILE, NOW, record

UPLOADED = Report(type=ReportType.UPLOADED, occurred_at=NOW)
CONVERTING = Report(type=ReportType.CONVERTING, occurred_at=NOW, job_id="j-1")
COMPLETED = Report(type=ReportType.COMPLETED, occurred_at=NOW, job_id="j-1")


def progress(percent: int) -> Report:
    return Report(
        type=ReportType.PROGRESS, occurred_at=NOW, job_id="j-1", percent=percent
    )


def batch(**seen) -> _Batch:
    return _Batch(now=NOW, records={FILE: record()}, seen=seen)


def test_each_report_is_decided_against_those_before_it():
    work = batch()

    answers = [
        work.take(Incoming(FILE, report))
        for report in (UPLOADED, CONVERTING, UPLOADED, COMPLETED, COMPLETED)
    ]

    assert [
        Answer(Outcome.APPLIED, Seq(2)),
        Answer(Outcome.APPLIED, Seq(3)),
        Answer(Outcome.STALE, Seq(3)),
        Answer(Outcome.APPLIED, Seq(4)),
        Answer(Outcome.DUPLICATE, Seq(4)),
    ] == answers
    assert [2, 3, 4] == [event.seq for _, event in work.events[FILE]]
    (reading,) = work.readings().values()
    assert (4, True, [2, 3, 4]) == (
        reading.head,
        reading.final,
        [event.seq for event in reading.events],
    )
    assert Status.PLAYABLE is work.records[FILE].state.status


def test_an_unknown_file_is_refused_alone_and_not_remembered():
    work = batch()

    unknown = work.take(Incoming("f-9", UPLOADED, webhook_id="w-1"))
    known = work.take(Incoming(FILE, UPLOADED, webhook_id="w-2"))

    assert isinstance(unknown, NotFoundError)
    assert Outcome.APPLIED is known.outcome
    assert ["w-2"] == list(work.new_ids)


def test_the_same_webhook_in_one_batch_acts_once_and_is_answered_the_same():
    work = batch()
    incoming = Incoming(FILE, UPLOADED, webhook_id="w-1", body=b"{}")

    answers = [work.take(incoming) for _ in range(3)]

    assert [Answer(Outcome.APPLIED, Seq(2))] * 3 == answers
    assert 1 == len(work.events)
    assert {"w-1": (incoming.digest, answers[0])} == work.new_ids


def test_a_webhook_of_an_earlier_batch_is_answered_as_it_was_then():
    incoming = Incoming(FILE, UPLOADED, webhook_id="w-1", body=b"{}")
    then = Answer(Outcome.APPLIED, Seq(1))
    work = batch(**{"w-1": (incoming.digest, then)})

    assert then == work.take(incoming)

    assert {} == work.events == work.new_ids


@pytest.mark.parametrize(
    "other",
    [
        Incoming(FILE, UPLOADED, webhook_id="w-1", body=b"{ }"),
        Incoming("f-2", UPLOADED, webhook_id="w-1", body=b"{}"),
    ],
    ids=["another body", "another file"],
)
def test_a_webhook_id_that_is_used_again_is_refused_and_changes_nothing(other):
    work = batch()
    first = work.take(Incoming(FILE, UPLOADED, webhook_id="w-1", body=b"{}"))

    assert isinstance(work.take(other), WebhookReusedError)

    assert Outcome.APPLIED is first.outcome
    assert 1 == len(work.events)


def test_reports_without_a_webhook_id_are_never_taken_for_repeats():
    work = batch()

    answers = [
        work.take(Incoming(FILE, report, webhook_id=None))
        for report in (UPLOADED, CONVERTING)
    ]

    assert [Outcome.APPLIED] * 2 == [answer.outcome for answer in answers]
    assert {} == work.new_ids


def test_digests_tell_where_the_file_id_ends():
    assert (
        Incoming("f-1", UPLOADED, body=b"2").digest
        != Incoming("f-12", UPLOADED, body=b"").digest
    )


def test_a_report_that_rests_on_an_older_state_is_stale():
    work = batch()
    work.take(Incoming(FILE, UPLOADED))

    late = work.take(Incoming(FILE, COMPLETED, if_seq=Seq(1)))
    timely = work.take(Incoming(FILE, COMPLETED, if_seq=Seq(2)))

    assert Answer(Outcome.STALE, Seq(2)) == late
    assert Answer(Outcome.APPLIED, Seq(3)) == timely


def test_progress_that_comes_too_fast_is_coalesced_and_names_the_stored_seq():
    work = batch()

    answers = [work.take(Incoming(FILE, progress(percent))) for percent in (1, 2, 3)]
    work.now += MIN_PROGRESS_INTERVAL
    answers.append(work.take(Incoming(FILE, progress(4))))

    assert [
        Answer(Outcome.APPLIED, Seq(2)),
        Answer(Outcome.COALESCED, Seq(2)),
        Answer(Outcome.COALESCED, Seq(2)),
        Answer(Outcome.APPLIED, Seq(3)),
    ] == answers
    assert [1, 4] == [report.percent for report, _ in work.events[FILE]]


def test_an_answer_is_the_json_of_the_contract():
    encoded = msgspec.json.encode(Answer(Outcome.COALESCED, Seq(5)))

    assert b'{"outcome":"coalesced","seq":5}' == encoded
