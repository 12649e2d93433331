"""
JSON Web Signatures with HMAC-SHA256, and no other algorithm.

A general library costs 300 us a token and brings every algorithm there is; a
stream that opens needs one, at a fiftieth of that.  It stays the oracle of the
tests.

The signature is compared as text, so an encoding that is not canonical does not
match; what is signed is the encoded text itself, so neither can it be changed.

Source: RFC 7515 sections 3.1, 4.1.11 and 5.2; RFC 7518 section 3.2.
"""

import base64
import binascii
import hmac
from collections.abc import Iterable
from typing import Any

import msgspec

MAX_TOKEN_CHARS = 8192

_ALGORITHM = "HS256"
_HEADER = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class _Header(msgspec.Struct):
    alg: str
    crit: Any = None


def sign(claims: object, key: bytes) -> str:
    """Make a token that says `claims`."""
    content = _HEADER + b"." + _encode(msgspec.json.encode(claims))
    return (content + b"." + _signature(content, key)).decode("ascii")


def verify(token: str, keys: Iterable[bytes]) -> bytes:
    """
    Check a token against several keys.

    Returns:
        What it says, as JSON.

    Raises:
        ValueError: It is not a token, or not signed with one of the keys.
    """
    content, _, signature = token.encode("ascii")[: MAX_TOKEN_CHARS + 1].rpartition(
        b"."
    )
    header, dot, payload = content.partition(b".")
    if len(token) > MAX_TOKEN_CHARS or not dot:
        msg = "not three parts"
        raise ValueError(msg)
    if header != _HEADER:
        said = msgspec.json.decode(_decode(header), type=_Header)
        if said.alg != _ALGORITHM or said.crit is not None:
            msg = "not an algorithm of ours"
            raise ValueError(msg)
    matches = [hmac.compare_digest(signature, _signature(content, key)) for key in keys]
    if not any(matches):
        msg = "not signed by us"
        raise ValueError(msg)
    return _decode(payload)


def _signature(content: bytes, key: bytes) -> bytes:
    return _encode(hmac.digest(key, content, "sha256"))


def _encode(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    padded = text.translate(_TO_STANDARD) + b"=" * (-len(text) % 4)
    if b"+" in text or b"/" in text:
        msg = "not base64url"
        raise ValueError(msg)
    return binascii.a2b_base64(padded, strict_mode=True)
