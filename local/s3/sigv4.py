"""
AWS Signature Version 4: the parts of a signature, and the making of one.

Pure.  Secrets and signatures are compared in constant time and in one place.

Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature
Version 4)".
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote_plus

from local.s3.errors import S3Error

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_TIMESTAMP = re.compile(r"\d{8}T\d{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """
    The parts of a request that are signed.

    Attributes:
        raw_path: Path as sent, percent-encoding untouched.
        raw_query: Query as sent, without the question mark.
        headers: Names in lower case, in the order they came.
    """

    method: str
    raw_path: str
    raw_query: str
    headers: Sequence[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        return [value for other, value in self.headers if other == name]

    def header(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)


@dataclass(frozen=True, slots=True)
class Credential:
    """The scope of a signature: whose key, and which day it was made for."""

    access_key: str
    date: str
    region: str
    service: str
    terminator: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{self.terminator}"


@dataclass(frozen=True, slots=True)
class Signature:
    """
    A signature that was checked.

    Attributes:
        payload: ``x-amz-content-sha256`` as signed: a hash the body must have,
            or the name of the way the body is protected.
        timestamp: When it was made, ``YYYYMMDDTHHMMSSZ``.
        value: The signature in hex; seed of the signatures of chunks.
    """

    access_key: str
    payload: str
    scope: str
    timestamp: str
    value: str
    key: bytes = field(repr=False)


def parse_query(raw_query: str) -> list[tuple[str, str]]:
    """
    Decode a query, keeping order and repeats; a plus sign is a space.

    Raises:
        S3Error: InvalidURI, when it is not UTF-8.
    """
    try:
        return [
            (unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict"))
            for name, _, value in (
                item.partition("=") for item in raw_query.split("&") if item
            )
        ]
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI") from error


def parse_timestamp(timestamp: str, *, error: str) -> datetime:
    """
    Read ``YYYYMMDDTHHMMSSZ``.

    Raises:
        S3Error: The code in `error`.
    """
    if not _TIMESTAMP.fullmatch(timestamp):
        raise S3Error(error, "A date in the form YYYYMMDDTHHMMSSZ is required")
    try:
        return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as reason:
        raise S3Error(error, "No such date") from reason


def parse_credential(
    text: str, timestamp: str, *, region: str, error: str
) -> Credential:
    """
    Read ``<key id>/<date>/<region>/s3/aws4_request`` and check its scope.

    Raises:
        S3Error: The code in `error`, when it is not of this day, region or
            service.
    """
    parts = text.rsplit("/", 4)
    if len(parts) != len(Credential.__slots__):
        raise S3Error(error, "The Credential is mal-formed")
    credential = Credential(*parts)
    if credential.region != region:
        raise S3Error(
            error,
            f"the region '{credential.region}' is wrong; expecting '{region}'",
            details={"Region": region},
        )
    if (credential.service, credential.terminator) != ("s3", "aws4_request"):
        raise S3Error(error, "The Credential must end in s3/aws4_request")
    if credential.date != timestamp[:8]:
        raise S3Error(error, "The Credential is not of the date of the request")
    return credential


def signing_key(secret: str, credential: Credential) -> bytes:
    """Derive the key that signs for one day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in credential.scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def secret_of(credential: Credential, access_keys: Mapping[str, str]) -> str:
    """
    Return the secret of the credential's key.

    Raises:
        S3Error: InvalidAccessKeyId.
    """
    try:
        return access_keys[credential.access_key]
    except KeyError:
        raise S3Error(
            "InvalidAccessKeyId", details={"AWSAccessKeyId": credential.access_key}
        ) from None


def sign(key: bytes, text: str) -> str:
    """Sign a text that says what it is; hex."""
    return hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()


def same(expected: str, given: str) -> bool:
    """Compare two signatures without telling how much of them agrees."""
    return hmac.compare_digest(
        expected.encode(), given.encode("utf-8", "surrogateescape")
    )
