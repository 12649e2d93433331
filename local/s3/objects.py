"""
What an object is, apart from its bytes; and when it may be replaced.

Frozen values, no I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate

from local.s3.errors import S3Error

MAX_KEY_BYTES = 1024

_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """
    What a client says about an object.

    Attributes:
        headers: Content-Type and the like, given back as they came.
        metadata: ``x-amz-meta-*`` without the prefix.
    """

    headers: dict[str, str]
    metadata: dict[str, str]
    tags: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """
    One committed object.

    Attributes:
        etag: Without quotes.
        modified_ms: Time of the commit, Unix epoch.
        sequencer: Of its event: hex, grows within the bucket.
        blob: Name of the file that holds the bytes.
        checksums: Base64 by algorithm, as the client sent them.
    """

    key: str
    size: int
    etag: str
    modified_ms: int
    sequencer: str
    blob: str
    description: Description
    checksums: dict[str, str]

    @property
    def quoted_etag(self) -> str:
        return f'"{self.etag}"'

    @property
    def last_modified(self) -> str:
        """As an HTTP date."""
        return formatdate(self.modified_ms // _MS, usegmt=True)


@dataclass(frozen=True, slots=True)
class Condition:
    """
    When a write may happen.

    Attributes:
        absent: Only when there is no such key.
        etag: Only when the object there has this ETag, without quotes.
    """

    absent: bool = False
    etag: str | None = None

    def check(self, key: str, existing: StoredObject | None) -> None:
        """
        Raises:
            S3Error: PreconditionFailed; NoSuchKey for an ETag of nothing.
        """
        if self.absent and existing is not None:
            raise S3Error("PreconditionFailed", details={"Condition": "If-None-Match"})
        if self.etag is None:
            return
        if existing is None:
            raise S3Error("NoSuchKey", details={"Key": key})
        if self.etag not in {"*", existing.etag}:
            raise S3Error("PreconditionFailed", details={"Condition": "If-Match"})


def condition_from(headers: Mapping[str, str]) -> Condition:
    """
    Read the conditions of a write.

    Raises:
        S3Error: NotImplemented for an ``If-None-Match`` other than ``*``, as S3
            itself says, and for both conditions at once, of which it says nothing.
    """
    if_none_match = headers.get("If-None-Match")
    if_match = headers.get("If-Match")
    if if_none_match not in {None, "*"} or (if_none_match and if_match):
        raise S3Error("NotImplemented")
    return Condition(
        absent=if_none_match == "*",
        etag=None if if_match is None else if_match.strip('"'),
    )


def iso(unix_ms: int) -> str:
    """Write a time as S3's documents do."""
    at = datetime.fromtimestamp(unix_ms / _MS, UTC)
    return f"{at.isoformat(timespec='milliseconds')[:23]}Z"


def checked_key(key: str) -> str:
    """
    Return the key.

    Raises:
        S3Error: KeyTooLongError; InvalidArgument for an empty one.
    """
    size = len(key.encode())
    if not size:
        raise S3Error("InvalidArgument", "User key must have a length greater than 0.")
    if size > MAX_KEY_BYTES:
        raise S3Error(
            "KeyTooLongError",
            details={"Size": str(size), "MaxSizeAllowed": str(MAX_KEY_BYTES)},
        )
    return key
