"""
The values everything else speaks of: frozen, typed, no I/O.

`FileState` is the wire FILE of the contract, field for field, so an event is
encoded once and never translated.  What the outside must not see (job ids,
when progress was last stored) is beside it in `FileRecord`.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from msgspec import Struct

FileId = NewType("FileId", str)
"""URL-safe, at most 64 characters of ``[0-9a-z-]``."""

FILE_ID = re.compile(r"[0-9a-z-]{1,64}")
"""What a `FileId` looks like in full."""

Seq = NewType("Seq", int)
"""
Number of an event within its file: 1, 2, 3 ..., in commit order and gapless, but
for a leap when the database was failed over or restored.
"""

LEAP = 1_000_000
"""At least so many seqs are left out then; no history that was lost is as long."""


class Status(StrEnum):
    """Where a file stands; the last four are terminal."""

    AWAITING_UPLOAD = "awaiting_upload"
    UPLOADED = "uploaded"
    CONVERTING = "converting"
    PLAYABLE = "playable"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether nothing but a new attempt can follow."""
        return self in TERMINAL


TERMINAL = frozenset({Status.PLAYABLE, Status.FAILED, Status.CANCELED, Status.EXPIRED})
"""The statuses that nothing but a new attempt can follow; their words are in it, too."""


class Phase(StrEnum):
    """What a conversion is doing, in the order in which it happens."""

    PROBING = "probing"
    TRANSCODING = "transcoding"
    UPLOADING = "uploading"


class Rendition(Struct, frozen=True, kw_only=True):
    """One quality of a playable file; what MediaConvert did not say is null."""

    url: str | None = None
    width: int | None = None
    height: int | None = None
    bandwidth: int | None = None
    average_bandwidth: int | None = None
    codecs: str | None = None
    frame_rate: float | None = None


class Playback(Struct, frozen=True, kw_only=True):
    """Where and how a playable file plays."""

    hls_url: str
    duration_ms: int | None = None
    renditions: tuple[Rendition, ...] = ()


class FileError(Struct, frozen=True, kw_only=True):
    """Why a file ended without being playable."""

    code: str
    message: str
    retryable: bool = False


class FileState(Struct, frozen=True, kw_only=True):
    """The whole state of a file as of `seq`: what every event carries."""

    id: FileId
    seq: Seq
    status: Status
    name: str
    content_type: str
    size: int
    owner: str | None
    metadata: Mapping[str, Any]
    attempt: int = 1
    phase: Phase | None = None
    percent: int | None = None
    playback: Playback | None = None
    error: FileError | None = None
    created_at: datetime
    updated_at: datetime


class Job(Struct, frozen=True, kw_only=True):
    """
    A MediaConvert job that was heard of.

    Attributes:
        attempt: Which attempt of its file it belongs to.
        occurred_at: Of the first report that named it; any of its reports
            would do to tell whether another job is earlier or later.
    """

    attempt: int
    occurred_at: datetime


class FileRecord(Struct, frozen=True, kw_only=True):
    """
    A file as the state machine sees it.

    Attributes:
        state: The wire state.
        jobs: The jobs that acted on it, by their MediaConvert ids.
        progressed_at: When a progress event was last stored, for coalescing.
    """

    state: FileState
    jobs: Mapping[str, Job] = {}
    progressed_at: datetime | None = None


class ReportType(StrEnum):
    """What a Lambda or the reconciler says happened."""

    UPLOADED = "uploaded"
    CONVERTING = "converting"
    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class Report(Struct, frozen=True, kw_only=True):
    """
    One thing that is said to have happened to a file.

    Attributes:
        attempt: Which attempt it speaks of; absent: found by `job_id`.
        occurred_at: When the sender says it happened; kept for the story, and
            to tell which of two jobs without `attempt` is the later one.
        playback: With `ReportType.COMPLETED` only.
        sender: Who says so, for `reelready explain`.
    """

    type: ReportType
    occurred_at: datetime
    job_id: str | None = None
    attempt: int | None = None
    phase: Phase | None = None
    percent: int | None = None
    error: FileError | None = None
    playback: Playback | None = None
    sender: str | None = None


class Outcome(StrEnum):
    """What became of a report."""

    APPLIED = "applied"
    COALESCED = "coalesced"
    DUPLICATE = "duplicate"
    STALE = "stale"


class Event(Struct, frozen=True):
    """
    One accepted change, as stored.

    Attributes:
        data: `FileState` as one line of JSON, UTF-8.
        frame: The same, framed for a stream: made once, written to everybody.
    """

    seq: Seq
    data: bytes
    frame: bytes


class Reading(Struct, frozen=True, kw_only=True):
    """
    What the table holds for one file beyond one cursor.

    Attributes:
        head: Seq of the newest event there is.
        owner: Whose file it is, for access checks.
        events: Contiguous, oldest first; may stop short of `head` (a page).
        reset: Why the cursor could not be continued from, if so; `events`
            is then the current state alone.
        terminal: Whether the file has ended.
    """

    head: Seq
    owner: str | None
    events: tuple[Event, ...]
    reset: str | None = None
    terminal: bool = False

    @property
    def final(self) -> bool:
        """Whether nothing can follow what is read here."""
        return self.terminal and (not self.events or self.events[-1].seq == self.head)
