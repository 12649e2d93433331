"""
What is said of a file: the reports of its attempts, signed as a Lambda signs.

Every attempt has one end and only the last one may be playable, as it is; what
arrives of it, how often and when, is for the steps to choose.
"""

import base64
import hmac
import json
import time
from dataclasses import dataclass
from hashlib import sha256

from bench.invariants.rooms import BUCKET, INGEST_KEY
from gateway.model import FileId

_BEGAN = "2026-03-01T12:00:00Z"


@dataclass(frozen=True)
class Signed:
    """One report, as often as it is sent."""

    file_id: FileId
    kind: str
    webhook_id: str
    body: bytes

    @property
    def digest(self) -> bytes:
        """What the gateway remembers of it."""
        return sha256(self.file_id.encode() + b"\0" + self.body).digest()

    def altered(self) -> "Signed":
        """Say it in other bytes, with the same webhook id."""
        return Signed(self.file_id, self.kind, self.webhook_id, self.body + b" ")

    def request(self) -> bytes:
        """Write the POST."""
        at = str(int(time.time()))
        signed = f"{self.webhook_id}.{at}.".encode() + self.body
        signature = base64.b64encode(hmac.digest(INGEST_KEY, signed, "sha256"))
        return (
            f"POST /v1/files/{self.file_id}/{self.kind} HTTP/1.1\r\nHost: h\r\n"
            f"webhook-id: {self.webhook_id}\r\nwebhook-timestamp: {at}\r\n"
            f"webhook-signature: v1,{signature.decode()}\r\n"
            f"Content-Length: {len(self.body)}\r\n\r\n"
        ).encode() + self.body


def reports_of(file_id: FileId, attempts: int, end: str) -> list[Signed]:
    """Tell what happens to a file, in order."""
    happened: list[tuple[str, dict[str, object]]] = []
    for attempt in range(1, attempts + 1):
        said: dict[str, object] = {"attempt": attempt, "job_id": f"job-{attempt}"}
        happened += [
            ("reports", {"type": "uploaded", "attempt": attempt}),
            ("reports", {"type": "converting"} | said),
        ]
        for percent, phase in ((10, "probing"), (40, "transcoding"), (80, None)):
            more = {"percent": percent} | ({"phase": phase} if phase else {})
            happened.append(("reports", {"type": "progress"} | more | said))
        if attempt < attempts or end != "playable":
            ended = {"error": {"code": f"e-{attempt}", "message": "줄\u2028바꿈"}}
            kind = "failed" if attempt % 2 else "canceled"
            happened.append(("reports", {"type": kind} | ended | said))
        else:
            master = f"s3://{BUCKET}/video/hls/{file_id}/master.m3u8"
            happened.append(("manifest", {"master_playlist": master} | said))
    return [
        Signed(
            file_id,
            kind,
            f"w-{file_id}-{number}",
            json.dumps({"occurred_at": _BEGAN} | body).encode(),
        )
        for number, (kind, body) in enumerate(happened)
    ]
