"""
The policy of a browser's POST upload: what a form may contain, signed.

Pure.  Every field has to be allowed by a condition and every condition has to
hold, so a form can add nothing to what the signer meant and leave nothing out.

Source: Amazon S3 API Reference, "POST policy".
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from local.s3 import sigv4
from local.s3.errors import S3Error

_REQUIRED = ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
_FREE = frozenset({"policy", "x-amz-signature", "file"})
_FREE_PREFIX = "x-ignore-"
_TESTS: dict[str, Callable[[str, str], bool]] = {
    "eq": str.__eq__,
    "starts-with": str.startswith,
}


@dataclass(frozen=True, slots=True)
class Approval:
    """
    A form that may be carried out.

    Attributes:
        min_bytes: Smallest file.
        max_bytes: Largest file; None when the policy does not say.
    """

    access_key: str
    min_bytes: int = 0
    max_bytes: int | None = None


def approve(
    fields: Mapping[str, str],
    bucket: str,
    *,
    access_keys: Mapping[str, str],
    region: str,
    now: datetime,
) -> Approval:
    """
    Check the signature of a form and the form against its policy.

    Args:
        fields: By name in lower case, file names already filled in.

    Raises:
        S3Error: AccessDenied for a form that its policy does not allow, or the
            reason why the policy is not believed.
    """
    if "policy" not in fields:
        raise S3Error("AccessDenied")
    access_key = _check_signature(fields, access_keys=access_keys, region=region)
    policy = _read(fields["policy"])
    if now >= policy.expiration:
        raise S3Error("AccessDenied", "Invalid according to Policy: Policy expired.")
    return _check_conditions(policy, {**fields, "bucket": bucket}, access_key)


@dataclass(frozen=True, slots=True)
class _Policy:
    expiration: datetime
    conditions: list[tuple[str, str, str]]
    ranges: list[tuple[int, int]]


def _check_signature(
    fields: Mapping[str, str], *, access_keys: Mapping[str, str], region: str
) -> str:
    for name in _REQUIRED:
        if name not in fields:
            raise S3Error(
                "InvalidArgument", f"Bucket POST must contain a field named '{name}'."
            )
    if fields["x-amz-algorithm"] != sigv4.ALGORITHM:
        raise S3Error("InvalidArgument", f"Only {sigv4.ALGORITHM} is supported")
    if "x-amz-security-token" in fields:
        raise S3Error("InvalidToken")
    credential = sigv4.parse_credential(
        fields["x-amz-credential"],
        fields["x-amz-date"],
        region=region,
        error="InvalidArgument",
    )
    key = sigv4.signing_key(sigv4.secret_of(credential, access_keys), credential)
    if not sigv4.same(sigv4.sign(key, fields["policy"]), fields["x-amz-signature"]):
        raise S3Error(
            "SignatureDoesNotMatch", details={"AWSAccessKeyId": credential.access_key}
        )
    return credential.access_key


def _read(encoded: str) -> _Policy:
    try:
        document = json.loads(base64.b64decode(encoded, validate=True))
        expiration = datetime.fromisoformat(document["expiration"])
        conditions = document["conditions"]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise S3Error("InvalidPolicyDocument", "Invalid Policy") from error
    if not isinstance(conditions, list):
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: no list of conditions")
    if expiration.tzinfo is None:
        expiration = expiration.replace(tzinfo=UTC)
    policy = _Policy(expiration, [], [])
    for condition in conditions:
        _add(policy, condition)
    return policy


def _add(policy: _Policy, condition: Any) -> None:
    match condition:
        case dict() if all(isinstance(value, str) for value in condition.values()):
            policy.conditions.extend(
                ("eq", name.lower(), value) for name, value in condition.items()
            )
        case ["content-length-range", least, most]:
            policy.ranges.append((_size(least), _size(most)))
        case [str(test), str(name), str(value)] if (
            test.lower() in _TESTS and name.startswith("$")
        ):
            policy.conditions.append((test.lower(), name[1:].lower(), value))
        case _:
            raise S3Error(
                "InvalidPolicyDocument",
                f"Invalid Policy: Invalid Condition: {json.dumps(condition)}",
            )


def _size(value: Any) -> int:
    try:
        size = int(value)
    except (TypeError, ValueError) as error:
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: no size") from error
    if size < 0:
        raise S3Error("InvalidPolicyDocument", "Invalid Policy: negative size")
    return size


def _check_conditions(
    policy: _Policy, fields: Mapping[str, str], access_key: str
) -> Approval:
    for test, name, value in policy.conditions:
        if name not in fields or not _TESTS[test](fields[name], value):
            shown = json.dumps([test, f"${name}", value])
            raise S3Error(
                "AccessDenied",
                f"Invalid according to Policy: Policy Condition failed: {shown}",
            )
    allowed = {name for _, name, _ in policy.conditions} | _FREE | {"bucket"}
    extra = sorted(
        name for name in set(fields) - allowed if not name.startswith(_FREE_PREFIX)
    )
    if extra:
        raise S3Error(
            "AccessDenied",
            f"Invalid according to Policy: Extra input fields: {', '.join(extra)}",
        )
    return Approval(
        access_key,
        min_bytes=max((least for least, _ in policy.ranges), default=0),
        max_bytes=min((most for _, most in policy.ranges), default=None),
    )
