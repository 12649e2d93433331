"""
What a relay says over Redis or Valkey: doorbells, and that it hears them.

    reelready:<file id>   the newest seq of that file
    reelready             a beat: which database the relay hears, and its term
    <file id>             each event, whole, for clients of the design before this one

A new term says that doorbells may have been lost before it.
"""

from gateway.model import FileId, Seq

BEATS = "reelready"
_PREFIX = "reelready:"
_LEASE = "reelready/relay/"
"""No channel of a file, whose id has no such sign."""

_DIGITS = 9


def lease(database: str) -> str:
    """Name the key that says which relay of a database works."""
    return _LEASE + database


def beat(database: str, term: str) -> str:
    """Write a beat."""
    return f"{term} {database}"


def beat_of(payload: str) -> str:
    """Read which database a beat is about."""
    return payload.partition(" ")[2]


def channel(file_id: FileId) -> str:
    """Name where the doorbell of a file rings."""
    return _PREFIX + file_id


def file_of(channel: str) -> FileId:
    """Name the file of a doorbell's channel."""
    return FileId(channel.removeprefix(_PREFIX))


def seq_of(payload: str) -> Seq | None:
    """Read a doorbell; None if it is none."""
    is_one = payload.isascii() and payload.isdigit() and len(payload) <= _DIGITS
    return Seq(int(payload)) if is_one else None
