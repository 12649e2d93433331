from datetime import UTC, datetime, timedelta, timezone

import pytest

from lambdas.reports import (
    MAX_ERROR_CHARACTERS,
    is_file_id,
    number,
    reported_error,
    time_from_datetime,
    time_from_epoch_ms,
    time_from_iso,
)
from tests.unit.lambdas.standins import FILE_ID


@pytest.mark.parametrize("file_id", [FILE_ID, "a", "0" * 64, "-"])
def test_a_file_id_is_made_of_small_letters_digits_and_hyphens(file_id):
    assert is_file_id(file_id)


@pytest.mark.parametrize(
    "text", ["", "A", "a_b", "a/b", "a\n", "0" * 65, "여름", "\u0661", None, 7]
)
def test_nothing_else_is_a_file_id(text):
    assert not is_file_id(text)


def test_times_are_utc_with_milliseconds_however_aws_wrote_them():
    seoul = timezone(timedelta(hours=9))

    assert "2025-11-22T00:00:20.310Z" == time_from_epoch_ms(1763769620310)
    assert "2025-11-22T00:00:00.512Z" == time_from_iso("2025-11-22T00:00:00.512Z")
    assert "2025-11-22T00:00:04.000Z" == time_from_iso("2025-11-22T00:00:04Z")
    assert "2025-11-22T00:00:04.000Z" == time_from_iso("2025-11-22T00:00:04")
    assert "2025-11-22T00:00:04.000Z" == time_from_datetime(
        datetime(2025, 11, 22, 9, 0, 4, tzinfo=seoul)
    )
    assert "2025-11-22T00:00:04.000Z" == time_from_datetime(
        datetime(2025, 11, 22, 0, 0, 4, tzinfo=UTC)
    )


@pytest.mark.parametrize("epoch_ms", [1e300, 10**400, -(10**17)])
def test_a_time_no_calendar_holds_is_an_error(epoch_ms):
    with pytest.raises(ValueError, match=r"."):
        time_from_epoch_ms(epoch_ms)


def test_a_foreign_error_text_becomes_one_bounded_line():
    error = reported_error("conversion_failed", " a\r\n\tb\x00\u2028c " + "d" * 1000)

    assert error["message"].startswith("a b c d")
    assert MAX_ERROR_CHARACTERS == len(error["message"])
    assert not error["retryable"]


@pytest.mark.parametrize("value", [True, "37", None, float("nan"), float("inf"), []])
def test_only_a_finite_number_is_a_number(value):
    assert number(value) is None
    assert 37 == number(37)
    assert 36.6 == number(36.6)
    assert 10**400 == number(10**400)
