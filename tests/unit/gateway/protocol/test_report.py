from datetime import UTC, datetime

import msgspec
import pytest

from gateway.errors import InvalidError
from gateway.model import FileError, Phase, Report, ReportType
from gateway.protocol import report
from gateway.protocol.report import MAX_ERROR_CHARS

PROGRESS = {
    "type": "progress",
    "job_id": "job-1",
    "attempt": 2,
    "occurred_at": "2026-03-01T12:00:00.123Z",
    "phase": "transcoding",
    "percent": 42,
    "sender": "hls_file_manifest_saver",
}
FAILED = {
    "type": "failed",
    "job_id": "job-1",
    "occurred_at": "2026-03-01T12:00:00Z",
    "error": {"code": "no_video", "message": "영상이 없습니다.\n", "retryable": True},
}


def decode(said: object) -> Report:
    return report.decode(msgspec.json.encode(said))


def test_progress_is_read_field_by_field_and_unknown_ones_are_ignored():
    assert decode(PROGRESS | {"new_field": 1, "error": None}) == Report(
        type=ReportType.PROGRESS,
        occurred_at=datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC),
        job_id="job-1",
        attempt=2,
        phase=Phase.TRANSCODING,
        percent=42,
        sender="hls_file_manifest_saver",
    )


def test_a_failure_brings_its_reason():
    assert (
        FileError(code="no_video", message="영상이 없습니다.", retryable=True)
        == decode(FAILED).error
    )


@pytest.mark.parametrize("error", [{}, {"message": ""}])
def test_a_reason_without_words_gets_some(error):
    assert (
        FileError(code="conversion_failed", message="The video could not be converted.")
        == decode(FAILED | {"error": error}).error
    )


@pytest.mark.parametrize(
    "kind", ["uploaded", "converting", "progress", "failed", "canceled"]
)
def test_a_type_and_a_time_are_enough(kind):
    said = decode({"type": kind, "occurred_at": "2026-03-01T12:00:00Z"})

    assert (ReportType(kind), None, None) == (said.type, said.job_id, said.percent)


WRONG = {
    "type": [None, "", "completed", "expired", "PROGRESS", 1, ["failed"]],
    "occurred_at": [
        *[None, "", "now", "2026-03-01", "2026-03-01T12:00:00", 1_767_225_600],
        *["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
    ],
    "job_id": ["", " ", 1, "a" * 201, "a\rb", "\u2029"],
    "attempt": [0, 1001, "1", 0.5],
    "phase": ["", "PROBING", "done", 1],
    "percent": [-1, 101, "42", 42.5, True],
    "error": ["it broke", [], 1],
    "sender": ["", 1, "a" * 201, "\x1b[31m"],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(name, value) for name, those in WRONG.items() for value in those],
)
def test_a_field_that_is_wrong_is_named(field, value):
    with pytest.raises(InvalidError) as raised:
        decode(PROGRESS | {field: value})

    assert field == raised.value.field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", ""),
        ("code", None),
        ("code", "a\nb"),
        ("code", "a" * 201),
        ("message", None),
        ("message", "a" * (MAX_ERROR_CHARS + 1)),
        ("retryable", "yes"),
    ],
)
def test_a_reason_that_is_wrong_is_named(field, value):
    with pytest.raises(InvalidError) as raised:
        decode(FAILED | {"error": {field: value}})

    assert f"error.{field}" == raised.value.field


def test_a_reason_may_be_as_long_as_is_said():
    longest = "a" * MAX_ERROR_CHARS

    assert longest == decode(FAILED | {"error": {"message": longest}}).error.message
    with pytest.raises(
        InvalidError, match=r"^error\.message: is longer than 2000 characters$"
    ):
        decode(FAILED | {"error": {"message": longest + "a"}})


@pytest.mark.parametrize("gone", ["type", "occurred_at"])
def test_a_required_field_that_is_missing_is_named(gone):
    with pytest.raises(InvalidError, match="is required") as raised:
        decode({name: value for name, value in PROGRESS.items() if name != gone})

    assert gone == raised.value.field


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
)
def test_a_time_that_utc_does_not_have_is_said_to_be_so(moment):
    with pytest.raises(
        InvalidError, match=r"^occurred_at: is not in the years 1 to 9999 of UTC$"
    ):
        decode(PROGRESS | {"occurred_at": moment})


def test_times_are_moved_to_utc():
    said = decode(PROGRESS | {"occurred_at": "2026-03-01T21:00:00+09:00"})

    assert datetime(2026, 3, 1, 12, tzinfo=UTC) == said.occurred_at
    assert UTC is said.occurred_at.tzinfo
