"""
Reports in: what the Lambdas POST to ``/v1/files/<id>/reports``.

Source: docs/protocol.md.
"""

from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gateway.errors import InvalidError
from gateway.model import FileError, Phase, Report, ReportType
from gateway.protocol import body

MAX_ERROR_CHARS = 2000

Attempt = Annotated[int, Meta(ge=1, le=1000)]
Moment = Annotated[datetime, Meta(tz=True)]


class _Error(Struct):
    code: str = "conversion_failed"
    message: str = ""
    retryable: bool = False


class _Body(Struct):
    type: Literal["uploaded", "converting", "progress", "failed", "canceled"]
    occurred_at: Moment
    job_id: str | None = None
    attempt: Attempt | None = None
    phase: Phase | None = None
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    error: _Error | None = None
    sender: str | None = None


def decode(raw: bytes) -> Report:
    """
    Read one report.

    Raises:
        InvalidError: naming the field.
    """
    said = body.decode(raw, _Body)
    return Report(
        type=ReportType(said.type),
        occurred_at=in_utc("occurred_at", said.occurred_at),
        job_id=body.clean_or_none("job_id", said.job_id),
        attempt=said.attempt,
        phase=said.phase,
        percent=said.percent,
        error=_error(said.error),
        sender=body.clean_or_none("sender", said.sender),
    )


def in_utc(field: str, moment: datetime) -> datetime:
    """
    Move a time to UTC, as the table keeps it.

    Raises:
        InvalidError: naming `field`; in UTC it is not in the years 1 to 9999.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidError(field, "is not in the years 1 to 9999 of UTC") from None


def _error(error: _Error | None) -> FileError | None:
    if error is None:
        return None
    if len(error.message) > MAX_ERROR_CHARS:
        raise InvalidError(
            "error.message", f"is longer than {MAX_ERROR_CHARS} characters"
        )
    return FileError(
        code=body.clean("error.code", error.code),
        message=body.one_line(error.message) or "The video could not be converted.",
        retryable=error.retryable,
    )
