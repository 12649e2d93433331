"""
JSON bodies in: bytes to checked values, or an error that names the field.

Source: docs/protocol.md; unknown fields are ignored.
"""

import re
from typing import TypeVar

import msgspec

from gateway.errors import InvalidError

MAX_LABEL_CHARS = 200
"""Ids, names of senders and error codes are this long at most."""

_AT = re.compile(r" - at `([^`]*)`$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_Body = TypeVar("_Body")


def decode(raw: bytes, shape: type[_Body]) -> _Body:
    """
    Decode and check one body.

    Raises:
        InvalidError: It is not JSON, or a field is missing or wrong.
    """
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidError("body", "is not valid JSON") from None
    except RecursionError:
        raise InvalidError("body", "is nested too deeply") from None


def clean(field: str, text: str, *, max_chars: int = MAX_LABEL_CHARS) -> str:
    """
    Refuse text that is empty, too long or holds control characters.

    Raises:
        InvalidError: naming `field`.
    """
    if not text.strip():
        raise InvalidError(field, "is empty")
    if len(text) > max_chars:
        raise InvalidError(field, f"is longer than {max_chars} characters")
    if _CONTROL.search(text):
        raise InvalidError(field, "holds control characters")
    return text


def one_line(text: str) -> str:
    """Make free text of others fit to be shown: control characters are spaces."""
    return _CONTROL.sub(" ", text).strip()


def clean_or_none(field: str, text: str | None) -> str | None:
    """Do as `clean`, where the field may be absent."""
    return None if text is None else clean(field, text)


def _named(message: str) -> InvalidError:
    at = _AT.search(message)
    problem = message[: at.start()] if at else message
    if len(problem) > MAX_LABEL_CHARS:
        problem = f"{problem[:MAX_LABEL_CHARS]} ..."
    if at:
        return InvalidError(at[1].removeprefix("$."), problem)
    if missing := re.search(r"missing required field `([^`]*)`", problem):
        return InvalidError(missing[1], "is required")
    return InvalidError("body", problem)
