"""
Reads the envelope of a ``MediaConvert Job State Change``.

Only ``detail`` counts: ``resources`` holds an ARN that AWS itself writes in two
ways.  ``userMetadata.file_id`` says whose job it is; a job without it belongs
to another application in the same account.

Source: MediaConvert user guide, "EventBridge event messages"; vectors:
``tests/vectors/aws``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambdas.errors import UnknownEventError
from lambdas.log import log
from lambdas.manifest import attempt_of
from lambdas.reports import is_file_id, number, time_from_epoch_ms, time_from_iso

_EVENT_ID = re.compile(r"[\x21-\x7e]{1,100}")
"""It goes into a header, as part of the `webhook-id`."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """
    One thing MediaConvert says about a job of ours.

    Attributes:
        cause: The same for every delivery of one event, other for any other.
        occurred_at: When MediaConvert says so, RFC 3339.
        detail: All of what it says.
    """

    cause: str
    file_id: str
    job_id: str
    attempt: int
    status: str
    occurred_at: str
    detail: Mapping[str, Any]


def job_event(event: object) -> JobEvent | None:
    """
    The event of a job of ours; None for a job of somebody else.

    Raises:
        UnknownEventError: It is no such event, or one without id, job, status
            or time.
    """
    if not isinstance(event, dict) or event.get("source") != "aws.mediaconvert":
        msg = "the event is not from aws.mediaconvert"
        raise UnknownEventError(msg)
    detail = event.get("detail")
    if not isinstance(detail, dict):
        msg = "detail: missing, or not an object"
        raise UnknownEventError(msg)
    metadata = detail.get("userMetadata")
    file_id = metadata.get("file_id") if isinstance(metadata, dict) else None
    if not isinstance(file_id, str) or not is_file_id(file_id):
        log("info", "job.not_ours", job_id=detail.get("jobId"), file_id=file_id)
        return None
    return JobEvent(
        cause=f"eb-{_event_id(event)}",
        file_id=file_id,
        job_id=_text(detail, "jobId"),
        attempt=attempt_of(metadata),
        status=_text(detail, "status"),
        occurred_at=_occurred_at(event, detail),
        detail=detail,
    )


def _event_id(event: Mapping[str, Any]) -> str:
    value = _text(event, "id")
    if not _EVENT_ID.fullmatch(value):
        msg = f"id: not printable ASCII, {value[:40]!r}"
        raise UnknownEventError(msg)
    return value


def _text(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    if not isinstance(value, str) or not value:
        msg = f"{name}: missing, or not text"
        raise UnknownEventError(msg)
    return value


def _occurred_at(event: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """Milliseconds from MediaConvert, else the second EventBridge noted."""
    epoch_ms = number(detail.get("timestamp"))
    try:
        if epoch_ms is not None:
            return time_from_epoch_ms(epoch_ms)
        return time_from_iso(_text(event, "time"))
    except ValueError as problem:
        msg = f"timestamp: {problem}"
        raise UnknownEventError(msg) from problem
