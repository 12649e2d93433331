"""
Finds the uploads in whatever wraps them: S3, EventBridge, SQS, SNS.

The one rule: a key is URL-decoded exactly once, and only where S3 encoded it.
A bucket notification carries ``a+b%2Bc.mp4`` for ``a b+c.mp4``; EventBridge
carries the key as it is.

Source: S3 user guide, "Event message structure" and "EventBridge event message
structure"; vectors: ``tests/vectors/aws``.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

from lambdas.errors import UnknownEventError
from lambdas.log import log
from lambdas.reports import time_from_iso

_MAX_WRAPPERS = 4
"""EventBridge in SNS in SQS is three; more is nobody's setup."""


@dataclass(frozen=True, slots=True)
class Upload:
    """
    One object that came to be.

    Attributes:
        key: Decoded: the object's name.
        size_bytes: None when the event does not say.
        occurred_at: When S3 says so, RFC 3339.
        sequencer: Tells this write of the key from any other.
    """

    bucket: str
    key: str
    size_bytes: int | None
    occurred_at: str
    sequencer: str

    @property
    def uri(self) -> str:
        """The object for MediaConvert."""
        return f"s3://{self.bucket}/{self.key}"

    @property
    def cause(self) -> str:
        """The same for every delivery of one event, other for any other event."""
        parts = (self.bucket, self.key, self.sequencer)
        # JSON, because a key may hold whatever would stand between the parts.
        digest = hashlib.sha256(json.dumps(parts).encode())
        return f"s3-{digest.hexdigest()[:32]}"


def uploads_in(event: object) -> tuple[list[Upload], list[UnknownEventError]]:
    """
    Every upload an invocation tells of, and what it tells that nobody knows.

    One unreadable record of a batch does not hide the others: the caller works
    on the uploads first and raises afterwards.
    """
    uploads: list[Upload] = []
    problems: list[UnknownEventError] = []
    for record in _unwrapped(event, wrappers=0):
        if isinstance(record, UnknownEventError):
            problems.append(record)
            continue
        try:
            upload = _read(record)
        except UnknownEventError as problem:
            problems.append(problem)
        else:
            if upload is not None:
                uploads.append(upload)
    return uploads, problems


def _unwrapped(
    event: object, *, wrappers: int
) -> Iterator[dict[str, Any] | UnknownEventError]:
    """The S3 records and EventBridge events inside, in order."""
    if wrappers > _MAX_WRAPPERS:
        yield UnknownEventError(f"more than {_MAX_WRAPPERS} wrappers around an event")
    elif not isinstance(event, dict):
        yield UnknownEventError(f"an event is an object, not {type(event).__name__}")
    elif event.get("Event") == "s3:TestEvent":
        log("info", "upload.test_event", bucket=event.get("Bucket"))
    elif isinstance(records := event.get("Records"), list):
        for record in records:
            yield from _unwrapped_record(record, wrappers=wrappers)
    elif event.get("Type") == "Notification":
        yield from _parsed(event.get("Message"), "SNS Message", wrappers=wrappers)
    elif event.get("source") == "aws.s3":
        yield event
    else:
        yield UnknownEventError(f"no known event has the fields {sorted(event)[:20]}")


def _unwrapped_record(
    record: object, *, wrappers: int
) -> Iterator[dict[str, Any] | UnknownEventError]:
    if not isinstance(record, dict):
        yield UnknownEventError("Records[]: not an object")
        return
    match record.get("eventSource") or record.get("EventSource"):
        case "aws:s3":
            yield record
        case "aws:sqs":
            yield from _parsed(record.get("body"), "SQS body", wrappers=wrappers)
        case "aws:sns":
            notice = record.get("Sns")
            text = notice.get("Message") if isinstance(notice, dict) else None
            yield from _parsed(text, "SNS Message", wrappers=wrappers)
        case other:
            yield UnknownEventError(f"Records[].eventSource: unknown, {other!r}")


def _parsed(
    text: object, what: str, *, wrappers: int
) -> Iterator[dict[str, Any] | UnknownEventError]:
    try:
        event = json.loads(text if isinstance(text, str) else "")
    except (ValueError, RecursionError):
        yield UnknownEventError(f"{what}: not JSON")
    else:
        yield from _unwrapped(event, wrappers=wrappers + 1)


def _read(record: dict[str, Any]) -> Upload | None:
    """The upload a record tells of; None for other news about a bucket."""
    name = str(record.get("eventName") or record.get("detail-type"))
    if name.startswith("ObjectCreated:"):
        return _from_notification(record)
    if name == "Object Created":
        return _from_eventbridge(record)
    log("info", "upload.other_event", name=name)
    return None


def _from_notification(record: dict[str, Any]) -> Upload:
    return _upload(
        bucket=_text(record, "s3", "bucket", "name"),
        key=unquote_plus(_text(record, "s3", "object", "key")),
        thing=_at(record, "s3", "object"),
        time=_text(record, "eventTime"),
    )


def _from_eventbridge(event: dict[str, Any]) -> Upload:
    return _upload(
        bucket=_text(event, "detail", "bucket", "name"),
        key=_text(event, "detail", "object", "key"),
        thing=_at(event, "detail", "object"),
        time=_text(event, "time"),
    )


def _upload(*, bucket: str, key: str, thing: dict[str, Any], time: str) -> Upload:
    size = thing.get("size")
    etag = thing.get("eTag") or thing.get("etag") or ""
    try:
        occurred_at = time_from_iso(time)
    except ValueError as problem:
        msg = f"the event's time is no time: {time!r}"
        raise UnknownEventError(msg) from problem
    return Upload(
        bucket=bucket,
        key=key,
        size_bytes=size if type(size) is int else None,
        occurred_at=occurred_at,
        # Moto, and S3 for some kinds of event, leave the sequencer out.
        sequencer=str(thing.get("sequencer") or f"{etag}@{occurred_at}"),
    )


def _at(record: dict[str, Any], *path: str) -> Any:
    value: Any = record
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _text(record: dict[str, Any], *path: str) -> str:
    value = _at(record, *path)
    if not isinstance(value, str) or not value:
        msg = f"{'.'.join(path)}: missing, or not text"
        raise UnknownEventError(msg)
    try:
        value.encode()
    except UnicodeEncodeError:
        msg = f"{'.'.join(path)}: holds half a character"
        raise UnknownEventError(msg) from None
    return value
