"""
What the Lambdas tell the gateway, as plain values; no I/O.

A report is a pure function of the event that caused it: the time in it is the
event's, never the clock's, so that every delivery of one event makes the same
bytes.

Source: docs/protocol.md.
"""

import math
import re
from datetime import UTC, datetime
from typing import Literal, TypedDict

MAX_ERROR_CHARACTERS = 500
"""Longest error text that is passed on."""

ReportType = Literal["uploaded", "converting", "progress", "failed", "canceled"]

_FILE_ID = re.compile(r"[0-9a-z-]{1,64}")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029]+")


class ReportedError(TypedDict):
    """Why a file ended without being playable."""

    code: str
    message: str
    retryable: bool


class Report(TypedDict, total=False):
    """One thing that happened to a file; what is not known is left out."""

    type: ReportType
    job_id: str
    attempt: int
    occurred_at: str
    phase: str
    percent: int
    error: ReportedError
    sender: str


def is_file_id(text: object) -> bool:
    """Whether this can be a file id of ours."""
    return isinstance(text, str) and _FILE_ID.fullmatch(text) is not None


def number(value: object) -> float | None:
    """A finite number out of foreign JSON; None for anything else."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if type(value) is int else None


def reported_error(
    code: str, message: str, *, retryable: bool = False
) -> ReportedError:
    """
    Describe a failure for the person who uploaded.

    Args:
        code: Stable, lower_snake_case.
        message: May be a foreign text of any length: it becomes one line of
            at most `MAX_ERROR_CHARACTERS`.
    """
    line = _UNPRINTABLE.sub(" ", message).strip()
    return {
        "code": code,
        "message": line[:MAX_ERROR_CHARACTERS],
        "retryable": retryable,
    }


def time_from_epoch_ms(epoch_ms: float) -> str:
    """
    RFC 3339 UTC with milliseconds.

    Raises:
        ValueError: No calendar holds that time.
    """
    try:
        return _rfc3339(datetime.fromtimestamp(epoch_ms / 1000, UTC))
    except (OverflowError, OSError) as problem:
        msg = f"{epoch_ms} ms is no time"
        raise ValueError(msg) from problem


def time_from_iso(text: str) -> str:
    """
    The same for a time AWS wrote as text.

    Raises:
        ValueError: It is not an ISO 8601 time, or none in UTC.
    """
    return time_from_datetime(datetime.fromisoformat(text))


def time_from_datetime(moment: datetime) -> str:
    """
    The same for a time boto3 parsed; without a zone it is UTC.

    Raises:
        ValueError: In UTC it is not in the years 1 to 9999.
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return _rfc3339(moment.astimezone(UTC))
    except OverflowError as problem:
        msg = f"{moment} is no time in UTC"
        raise ValueError(msg) from problem


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
