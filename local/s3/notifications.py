"""
Event notifications: which are wanted, and what they look like.

Pure.  A record says what was committed and nothing that is not in an AWS
record; tags, above all, are not.

Source: Amazon S3 User Guide, "Event message structure" (record version 2.6)
and "EventBridge event message structure".
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import Any
from urllib.parse import quote_plus
from xml.etree import ElementTree as ET

from local.s3 import xmldoc
from local.s3.errors import S3Error

ACCOUNT_ID = "000000000000"
OWNER_ID = "LOCALOWNER"

_ALL_CREATED = "s3:ObjectCreated:*"
_REASONS = {
    "ObjectCreated:Put": "PutObject",
    "ObjectCreated:Post": "POST Object",
    "ObjectCreated:Copy": "CopyObject",
    "ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
}
_EVENTS = frozenset({_ALL_CREATED, *(f"s3:{name}" for name in _REASONS)})


@dataclass(frozen=True, slots=True)
class LambdaTarget:
    """One function, and the objects it is called for."""

    target_id: str
    arn: str
    events: tuple[str, ...]
    prefix: str
    suffix: str

    def wants(self, event_name: str, key: str) -> bool:
        return (
            (_ALL_CREATED in self.events or f"s3:{event_name}" in self.events)
            and key.startswith(self.prefix)
            and key.endswith(self.suffix)
        )

    def overlaps(self, other: "LambdaTarget") -> bool:
        return (
            _nested(self.prefix, other.prefix, str.startswith)
            and _nested(self.suffix, other.suffix, str.endswith)
            and (
                _ALL_CREATED in self.events + other.events
                or bool(set(self.events) & set(other.events))
            )
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who is told about the objects of a bucket."""

    functions: tuple[LambdaTarget, ...] = ()
    event_bridge: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """
    An object that was committed.

    Attributes:
        event_name: As in a record, without ``s3:``.
        etag: Without quotes.
        sequencer: Hex; grows within the bucket.
    """

    event_name: str
    region: str
    bucket: str
    key: str
    size: int
    etag: str
    sequencer: str
    at: datetime
    access_key: str
    source_ip: str
    request_id: str
    host_id: str


def events(configuration: Configuration, change: Change) -> Iterator[dict[str, Any]]:
    """Yield what each target is sent: ``Records``, or an EventBridge event."""
    for target in configuration.functions:
        if target.wants(change.event_name, change.key):
            yield {"Records": [_record(change, target.target_id)]}
    if configuration.event_bridge:
        yield _event_bridge_event(change)


def _record(change: Change, configuration_id: str) -> dict[str, Any]:
    return {
        "eventVersion": "2.6",
        "eventSource": "aws:s3",
        "awsRegion": change.region,
        "eventTime": f"{change.at.isoformat('T', 'milliseconds')[:23]}Z",
        "eventName": change.event_name,
        "userIdentity": {"principalId": f"AWS:{change.access_key}"},
        "requestParameters": {"sourceIPAddress": change.source_ip},
        "responseElements": {
            "x-amz-request-id": change.request_id,
            "x-amz-id-2": change.host_id,
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration_id,
            "bucket": {
                "name": change.bucket,
                "ownerIdentity": {"principalId": OWNER_ID},
                "arn": f"arn:aws:s3:::{change.bucket}",
            },
            "object": {
                "key": quote_plus(change.key, safe="/"),
                "size": change.size,
                "eTag": change.etag,
                "sequencer": change.sequencer,
            },
        },
    }


def _event_bridge_event(change: Change) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": ACCOUNT_ID,
        "time": f"{change.at:%Y-%m-%dT%H:%M:%SZ}",
        "region": change.region,
        "resources": [f"arn:aws:s3:::{change.bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": change.bucket},
            "object": {
                "key": change.key,
                "size": change.size,
                "etag": change.etag,
                "sequencer": change.sequencer,
            },
            "request-id": change.request_id,
            "requester": ACCOUNT_ID,
            "source-ip-address": change.source_ip,
            "reason": _REASONS[change.event_name],
        },
    }


def from_document(body: bytes) -> Configuration:
    """
    Read a ``NotificationConfiguration``.

    Raises:
        S3Error: MalformedXML, InvalidArgument for overlapping targets or unknown
            events, NotImplemented for queues, topics and events never sent here.
    """
    root = xmldoc.parse(body, "NotificationConfiguration")
    if root.findall("QueueConfiguration") or root.findall("TopicConfiguration"):
        raise S3Error("NotImplemented")
    xmldoc.only(root, "CloudFunctionConfiguration", "EventBridgeConfiguration")
    functions = tuple(
        _target(element) for element in root.findall("CloudFunctionConfiguration")
    )
    if any(one.overlaps(other) for one, other in combinations(functions, 2)):
        raise S3Error(
            "InvalidArgument",
            "Configurations overlap. Configurations on the same bucket cannot share a "
            "common event type.",
        )
    return Configuration(
        functions, event_bridge=root.find("EventBridgeConfiguration") is not None
    )


def to_document(configuration: Configuration) -> bytes:
    """Write a ``NotificationConfiguration``."""
    return xmldoc.document(
        "NotificationConfiguration",
        *(
            xmldoc.node(
                "CloudFunctionConfiguration",
                xmldoc.leaf("Id", target.target_id),
                xmldoc.leaf("CloudFunction", target.arn),
                xmldoc.leaves("Event", target.events),
                _filter(target),
            )
            for target in configuration.functions
        ),
        xmldoc.node("EventBridgeConfiguration") if configuration.event_bridge else "",
    )


def _filter(target: LambdaTarget) -> str:
    rules = [
        xmldoc.node(
            "FilterRule", xmldoc.leaf("Name", name), xmldoc.leaf("Value", value)
        )
        for name, value in (("Prefix", target.prefix), ("Suffix", target.suffix))
        if value
    ]
    return xmldoc.node("Filter", xmldoc.node("S3Key", *rules)) if rules else ""


def _target(element: ET.Element) -> LambdaTarget:
    xmldoc.only(element, "Id", "CloudFunction", "Event", "Filter")
    names = xmldoc.texts_of(element, "Event")
    if not names:
        raise S3Error("MalformedXML")
    for name in names:
        _check_event(name)
    rules = dict(_filter_rules(element))
    return LambdaTarget(
        target_id=next(iter(xmldoc.texts_of(element, "Id")), "") or str(uuid.uuid4()),
        arn=xmldoc.text_of(element, "CloudFunction"),
        events=names,
        prefix=rules.get("prefix", ""),
        suffix=rules.get("suffix", ""),
    )


def _check_event(name: str) -> None:
    if name in _EVENTS:
        return
    if name.startswith("s3:"):
        raise S3Error("NotImplemented")
    raise S3Error("InvalidArgument", "A specified event is not supported.")


def _filter_rules(element: ET.Element) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for rule in element.findall("Filter/S3Key/FilterRule"):
        xmldoc.only(rule, "Name", "Value")
        name = xmldoc.text_of(rule, "Name").lower()
        if name not in {"prefix", "suffix"} or name in seen:
            raise S3Error(
                "InvalidArgument",
                "filter rule name must be either prefix or suffix, once each",
            )
        seen.add(name)
        yield name, xmldoc.text_of(rule, "Value")


def _nested(one: str, other: str, test: Callable[[str, str], bool]) -> bool:
    return test(one, other) or test(other, one)
