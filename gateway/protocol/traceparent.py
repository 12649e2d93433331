"""
Reads a `traceparent` header; whatever is none is as if there were none.

Source: W3C Trace Context, "traceparent Header".
"""

import re

from msgspec import Struct

_HEADER = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<rest>-.{0,200})?",
    re.ASCII,
)


class TraceParent(Struct, frozen=True):
    """Where in which trace the sender was."""

    trace_id: int
    span_id: int
    flags: int


def decode(header: str | None) -> TraceParent | None:
    """
    Read a header; None if it is absent or not one.

    What follows the flags is of a later version, and ignored.
    """
    found = _HEADER.fullmatch(header or "")
    if found is None or (found["rest"] and found["version"] == "00"):
        return None
    said = TraceParent(
        int(found["trace"], 16), int(found["span"], 16), int(found["flags"], 16)
    )
    return said if said.trace_id and said.span_id else None
