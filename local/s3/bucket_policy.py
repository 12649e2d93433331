"""
A bucket policy: enough of it to publish a prefix, and a refusal of the rest.

The keys of the stand-in are the account's own, so a policy only adds what
anonymous requests may read.  A statement that could not be applied in full is
refused when it is put; what is stored holds.

Source: Amazon S3 User Guide, "Bucket policies".
"""

import json
import re
from typing import Any

from local.s3.errors import S3Error

_READ = "s3:GetObject"
_STATEMENT = frozenset({"Sid", "Effect", "Principal", "Action", "Resource"})
_EVERYBODY = ("*", {"AWS": "*"}, {"AWS": ["*"]})
_ARN = "arn:aws:s3:::"
_WILD = {"*": ".*", "?": "."}


def public_patterns(body: bytes, bucket: str) -> tuple[re.Pattern[str], ...]:
    """
    Read a policy document.

    Returns:
        Patterns of the keys that everybody may read.

    Raises:
        S3Error: MalformedPolicy, or NotImplemented for a statement that does
            anything but let everybody get objects.
    """
    try:
        policy = json.loads(body)
    except ValueError as error:
        raise S3Error(
            "MalformedPolicy", "Policies must be valid JSON and the first byte '{'"
        ) from error
    if not isinstance(policy, dict) or "Statement" not in policy:
        raise S3Error("MalformedPolicy", "Missing required field Statement")
    statements = policy["Statement"]
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list):
        raise S3Error("MalformedPolicy")
    return tuple(
        _pattern(resource, bucket)
        for statement in statements
        for resource in _readable(statement)
    )


def _readable(statement: Any) -> list[str]:
    if not isinstance(statement, dict):
        raise S3Error("MalformedPolicy")
    if set(statement) - _STATEMENT:
        raise S3Error("NotImplemented")
    effect = statement.get("Effect")
    if effect not in {"Allow", "Deny"}:
        raise S3Error("MalformedPolicy", f"Invalid effect: {effect}")
    if effect == "Deny" or statement.get("Principal") not in _EVERYBODY:
        raise S3Error("NotImplemented")
    actions = _texts(statement.get("Action"))
    if any(not action.startswith("s3:") for action in actions):
        raise S3Error("MalformedPolicy", "Policy has invalid action")
    if any(action != _READ for action in actions):
        raise S3Error("NotImplemented")
    return _texts(statement.get("Resource"))


def _pattern(resource: str, bucket: str) -> re.Pattern[str]:
    prefix = f"{_ARN}{bucket}/"
    if not resource.startswith(prefix):
        raise S3Error("MalformedPolicy", "Policy has invalid resource")
    parts = re.split(r"([*?])", resource.removeprefix(prefix))
    return re.compile(
        "".join(_WILD.get(part) or re.escape(part) for part in parts), re.DOTALL
    )


def _texts(value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise S3Error("MalformedPolicy")
    if not all(isinstance(one, str) for one in values):
        raise S3Error("MalformedPolicy")
    return values
