"""
Who sent a request, by its query or its headers; or why we do not believe it.

Pure: a request head and a clock in, a `Signature` or an `S3Error` out.  The
path and query are taken as sent on the wire, decoded once and encoded again,
because that is what was signed, whatever a URL library would make of it.

Source: Amazon S3 API Reference, "Authenticating Requests (AWS Signature
Version 4)".
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote, unquote_to_bytes

from local.s3.errors import S3Error
from local.s3.sigv4 import (
    ALGORITHM,
    UNSIGNED_PAYLOAD,
    Credential,
    RequestHead,
    Signature,
    parse_credential,
    parse_query,
    parse_timestamp,
    same,
    secret_of,
    sign,
    signing_key,
)

CLOCK_SKEW = timedelta(minutes=15)
MAX_EXPIRES_S = 7 * 24 * 3600

_EXPIRES = re.compile(r"\d{1,9}", re.ASCII)
_HEADER_PART = re.compile(r"(Credential|SignedHeaders|Signature)=([^,\s]+)")
_QUERY_NAMES = frozenset(
    f"X-Amz-{name}"
    for name in (
        "Algorithm",
        "Credential",
        "Date",
        "Expires",
        "SignedHeaders",
        "Signature",
    )
)
_VERSION_2 = frozenset({"AWSAccessKeyId", "Signature"})


def verify(
    head: RequestHead,
    *,
    access_keys: Mapping[str, str],
    region: str,
    now: datetime,
) -> Signature | None:
    """
    Check the signature of a request, in its query or its headers.

    Args:
        access_keys: Secret by access key id.
        now: Current time, with a zone.

    Returns:
        The signature, or None for an anonymous request.

    Raises:
        S3Error: It is signed, and the signature is malformed, too old, by an
            unknown key, or not of this request.
    """
    query = parse_query(head.raw_query)
    names = {name for name, _ in query}
    authorization = head.header("authorization")

    if _VERSION_2 & names or (authorization or "").startswith("AWS "):
        raise S3Error(
            "InvalidRequest",
            f"The authorization mechanism you have provided is not supported. "
            f"Please use {ALGORITHM}.",
        )
    if _QUERY_NAMES & names:
        if authorization is not None:
            raise S3Error(
                "InvalidArgument", "Only one auth mechanism allowed per request."
            )
        claim = _claim_from_query(query, head, region=region, now=now)
    elif authorization is not None:
        claim = _claim_from_headers(authorization, head, region=region, now=now)
    else:
        return None
    return _check(claim, head, query, access_keys)


@dataclass(frozen=True, slots=True)
class _Claim:
    credential: Credential
    timestamp: str
    signed_headers: tuple[str, ...]
    signature: str
    payload: str


def _claim_from_query(
    query: list[tuple[str, str]], head: RequestHead, *, region: str, now: datetime
) -> _Claim:
    error = "AuthorizationQueryParametersError"
    values = dict(query)
    given = [name for name, _ in query if name in _QUERY_NAMES]
    if sorted(given) != sorted(_QUERY_NAMES):
        raise S3Error(
            error,
            "Query-string authentication version 4 requires the X-Amz-Algorithm, "
            "X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and "
            "X-Amz-Expires parameters, once each.",
        )
    if values["X-Amz-Algorithm"] != ALGORITHM:
        raise S3Error(error, f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    _no_session("X-Amz-Security-Token" in values)
    timestamp = values["X-Amz-Date"]
    credential = parse_credential(
        values["X-Amz-Credential"], timestamp, region=region, error=error
    )
    _check_expiry(timestamp, values["X-Amz-Expires"], now)
    signed_headers = tuple(values["X-Amz-SignedHeaders"].split(";"))
    payload = values.get("X-Amz-Content-Sha256")
    if payload is None and "x-amz-content-sha256" in signed_headers:
        payload = head.header("x-amz-content-sha256")
    return _Claim(
        credential,
        timestamp,
        signed_headers,
        values["X-Amz-Signature"],
        payload or UNSIGNED_PAYLOAD,
    )


def _check_expiry(timestamp: str, expires: str, now: datetime) -> None:
    if not _EXPIRES.fullmatch(expires) or not 1 <= int(expires) <= MAX_EXPIRES_S:
        raise S3Error(
            "AuthorizationQueryParametersError",
            f"X-Amz-Expires must be between 1 and {MAX_EXPIRES_S} seconds",
        )
    made = parse_timestamp(timestamp, error="AuthorizationQueryParametersError")
    if made - now > CLOCK_SKEW:
        raise S3Error("AccessDenied", "Request is not yet valid")
    end = made + timedelta(seconds=int(expires))
    if now > end:
        raise S3Error(
            "AccessDenied",
            "Request has expired",
            details={
                "X-Amz-Expires": expires,
                "Expires": f"{end:%Y-%m-%dT%H:%M:%SZ}",
                "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            },
        )


def _claim_from_headers(
    authorization: str, head: RequestHead, *, region: str, now: datetime
) -> _Claim:
    error = "AuthorizationHeaderMalformed"
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise S3Error("InvalidArgument", "Unsupported Authorization Type")
    parts = _HEADER_PART.findall(rest)
    values = dict(parts)
    if len(parts) != len(values) or len(values) != len(
        ("Credential", "SignedHeaders", "Signature")
    ):
        raise S3Error(error)
    _no_session(head.header("x-amz-security-token") is not None)
    timestamp = head.header("x-amz-date") or ""
    made = parse_timestamp(timestamp, error="AccessDenied")
    if abs(made - now) > CLOCK_SKEW:
        raise S3Error("RequestTimeTooSkewed")
    credential = parse_credential(
        values["Credential"], timestamp, region=region, error=error
    )
    payload = head.header("x-amz-content-sha256")
    if payload is None:
        raise S3Error(
            "InvalidRequest",
            "Missing required header for this request: x-amz-content-sha256",
        )
    signed_headers = tuple(values["SignedHeaders"].split(";"))
    return _Claim(credential, timestamp, signed_headers, values["Signature"], payload)


def _no_session(given: bool) -> None:  # noqa: FBT001  the only argument
    if given:
        raise S3Error("InvalidToken")


def _check(
    claim: _Claim,
    head: RequestHead,
    query: list[tuple[str, str]],
    access_keys: Mapping[str, str],
) -> Signature:
    secret = secret_of(claim.credential, access_keys)
    _check_coverage(claim, head)
    key = signing_key(secret, claim.credential)
    # The path is signed as it is sent; S3 also takes one that lost some of its
    # escapes on the way, as URL libraries do.  Both name the same key.
    paths = {head.raw_path, quote(unquote_to_bytes(head.raw_path), safe="/-_.~")}
    texts = [_string_to_sign(claim, head, path, query) for path in sorted(paths)]
    if not any(same(sign(key, text), claim.signature) for text in texts):
        raise S3Error(
            "SignatureDoesNotMatch",
            details={"AWSAccessKeyId": claim.credential.access_key},
        )
    return Signature(
        access_key=claim.credential.access_key,
        payload=claim.payload,
        scope=claim.credential.scope,
        timestamp=claim.timestamp,
        value=claim.signature,
        key=key,
    )


def _check_coverage(claim: _Claim, head: RequestHead) -> None:
    """
    Refuse headers that change what is done but were not signed.

    A signed header that is not there is no empty header: without this, leaving
    out a header signed with an empty value would go unnoticed.
    """
    signed = set(claim.signed_headers)
    loose = {name for name, _ in head.headers if name.startswith("x-amz-")} - signed
    if "host" not in signed or loose:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            details={"HeadersNotSigned": ", ".join(sorted(loose) or ["host"])},
        )
    if signed - {name for name, _ in head.headers}:
        raise S3Error("SignatureDoesNotMatch")


def _string_to_sign(
    claim: _Claim, head: RequestHead, path: str, query: list[tuple[str, str]]
) -> str:
    pairs = sorted(
        (_encode(name), _encode(value))
        for name, value in query
        if name != "X-Amz-Signature"
    )
    headers = "".join(
        f"{name}:{','.join(' '.join(value.split()) for value in head.values(name))}\n"
        for name in sorted(set(claim.signed_headers))
    )
    request = "\n".join(
        (
            head.method,
            path,
            "&".join(f"{name}={value}" for name, value in pairs),
            headers,
            ";".join(claim.signed_headers),
            claim.payload,
        )
    )
    digest = hashlib.sha256(request.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{claim.timestamp}\n{claim.credential.scope}\n{digest}"


def _encode(text: str) -> str:
    return quote(text, safe="-_.~")
