"""
The one event everybody delivers: a FILE of about 0.6 KiB.

The load client knows an event by the last 12 digits of its id and by its seq,
which every peer carries as it is; ours writes the same one from its own state.
"""

import json
from datetime import UTC, datetime
from typing import Any

FIRST_SEQ = 1
"""Registration; the first publication of a file is the next one."""

MAX_SEQ = 1000
"""Ours takes that many attempts of one file."""

_METADATA = {
    "title": "A summer evening at the river, first cut",
    "course": "documentary-2025",
    "lecture": "17",
    "note": "recorded in the field, sound to be replaced by the second microphone",
}


def file_id(file: int) -> str:
    """The id of a file by its number."""
    return f"00000000-0000-7000-8000-{file:012d}"


def document(file: int, seq: int, *, status: str = "converting") -> bytes:
    """
    Write a FILE as the contract shows it, on one line.

    Args:
        file: Number of the file.
        seq: Its number of events so far; also its attempt.
    """
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    fields: dict[str, Any] = {
        "id": file_id(file),
        "seq": seq,
        "status": status,
        "name": f"lecture-{file:06d}.mov",
        "content_type": "video/quicktime",
        "size": 104_857_600,
        "owner": f"u-{file % 997}",
        "metadata": _METADATA,
        "attempt": seq,
        "phase": "transcoding" if status == "converting" else None,
        "percent": 42 if status == "converting" else None,
        "playback": None,
        "error": None,
        "created_at": now,
        "updated_at": now,
    }
    return json.dumps(fields, separators=(",", ":")).encode()
