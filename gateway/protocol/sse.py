r"""
Server-Sent Events framing: values in, bytes out, no I/O.

A frame depends on the event alone, never on who reads it, so the same bytes
object can be written to every subscriber.  Only `event` carries an ``id:``:
heartbeats, resets and byes never move a cursor.

Source: WHATWG HTML, "Server-sent events".  Vectors: ``tests/vectors/sse.json``.
"""

CONTENT_TYPE = "text/event-stream; charset=utf-8"

HEARTBEAT = b"event: hb\ndata:\n\n"
"""A visible event, so that a script can tell a quiet stream from a muted one."""


def hello(retry_ms: int) -> bytes:
    """Open a stream: the reconnect delay, and a comment that makes it flush."""
    return b"retry: %d\n: reelready\n\n" % retry_ms


def event(seq: int, data: bytes) -> bytes:
    """
    Frame one event.

    Args:
        data: JSON as msgspec writes it: one line, line breaks escaped.
    """
    return b"id: %d\ndata: %b\n\n" % (seq, data)


def unnumbered(data: bytes) -> bytes:
    """Frame one event of a stream over many files, which has no cursor."""
    return b"data: %b\n\n" % data


def reset(reason: str) -> bytes:
    """Say that the cursor cannot be continued; the current state follows."""
    return b'event: reset\ndata: {"reason": "%b"}\n\n' % reason.encode("ascii")


def bye(reason: str, *, retry_ms: int | None = None) -> bytes:
    """
    Say why the stream ends now.

    Args:
        retry_ms: Overrides the reconnect delay, to spread a herd.
    """
    retry = b"" if retry_ms is None else b"retry: %d\n" % retry_ms
    return retry + b'event: bye\ndata: {"reason": "%b"}\n\n' % reason.encode("ascii")
