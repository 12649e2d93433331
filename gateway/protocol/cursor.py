"""
What a client says it has seen, parsed from any bytes whatever.

Browsers give up on an EventSource that is answered with an error, so nothing
here raises: a cursor is a seq, or missing, or unknown.
"""

import re

from gateway.protocol.http import Request

CURRENT = -1
"""No cursor: the current state is wanted."""

UNKNOWN = -2
"""A cursor nobody gave out: a reset and the current state are due."""

_SEQ = re.compile(r"\d{1,9}", re.ASCII)
_ETAG = re.compile(r'(?:W/)?"(\d{1,9})"', re.ASCII)


def parse(text: str | None) -> int:
    """Read one cursor; ``0`` asks for everything that is retained."""
    if text is None or not text:
        return CURRENT
    return int(text) if _SEQ.fullmatch(text) else UNKNOWN


def from_request(request: Request) -> int:
    """Find the cursor of a stream: header first, then the query's three names."""
    for text in (
        request.headers.get("last-event-id"),
        request.argument("lastEventId"),
        request.argument("last_event_id"),
        request.argument("after"),
    ):
        if text:
            return parse(text)
    return CURRENT


def from_etag(if_none_match: str | None) -> int:
    """
    Read ``If-None-Match`` as a cursor (RFC 9110 section 13.1.2).

    The newest of several; anything else matches nothing.
    """
    if if_none_match is None:
        return CURRENT
    seqs = [int(seq) for seq in _ETAG.findall(if_none_match)]
    return max(seqs) if seqs else UNKNOWN


def etag(seq: int) -> str:
    """Write a seq as an entity tag."""
    return f'"{seq}"'
