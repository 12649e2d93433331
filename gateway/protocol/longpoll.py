"""
Long-poll answers and the wait that a client asks for.

Source: RFC 7240 section 4.3 (``Prefer: wait``); docs/protocol.md.
"""

import re
from collections.abc import Iterable

from gateway.errors import InvalidError

DEFAULT_WAIT_S = 25

_SECONDS = re.compile(r"\d{1,100}", re.ASCII)
_PREFER_WAIT = re.compile(
    r"""(?:^|,)\s*wait\s*=\s*("?)(\d{1,18})\1\s*(?=[,;]|$)""",
    re.ASCII | re.IGNORECASE,
)


def encode(
    events: Iterable[bytes], *, after: int, final: bool, reset: str | None
) -> bytes:
    """
    Write the body of a long-poll answer.

    Args:
        events: Each the JSON of a FILE, oldest first.
        after: The cursor to ask with next.
        final: Whether nothing will ever follow.
        reset: Why the cursor could not be continued from, if so.
    """
    return b'{"events":[%b],"after":%d,"final":%b%b}' % (
        b",".join(events),
        after,
        b"true" if final else b"false",
        b"" if reset is None else b',"reset":"%b"' % reset.encode("ascii"),
    )


def wait_s(query: str | None, prefer: str | None, *, max_s: int) -> int | None:
    """
    Seconds a client is willing to wait, capped; None when it did not say.

    Raises:
        InvalidError: ``wait`` is not a whole number of seconds.
    """
    if query is not None:
        if not _SECONDS.fullmatch(query):
            raise InvalidError("wait", "is not a whole number of seconds")
        return min(int(query), max_s)
    if prefer is not None and (match := _PREFER_WAIT.search(prefer)):
        return min(int(match[2]), max_s)
    return None
