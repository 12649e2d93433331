"""
Logs: one JSON object a line on standard output, where CloudWatch reads it.

Nothing secret may be passed in; there is no filter that would take it out.
"""

import json
import sys
from typing import Literal

Level = Literal["info", "warning", "error"]


def log(level: Level, event: str, **fields: object) -> None:
    """
    Write one line.

    Args:
        event: What happened, as a dotted name to search for: ``job.created``.
        fields: Plain values; anything else is written as its text.
    """
    line = {"level": level, "event": event, **fields}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()
