"""
NOTIFY payloads: a doorbell that says which files rang, never what happened.

``<file id>:<seq>`` pairs separated by commas, each payload within Postgres'
limit of 8,000 bytes (PostgreSQL manual, NOTIFY).  An echo is the listener's
own nonce, ``=<nonce>``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from gateway.model import FileId, Seq

CHANNEL = "reelready"
MAX_PAYLOAD_BYTES = 7999

_ECHO = "="
_SEQ = re.compile(r"\d{1,9}", re.ASCII)


def encode(heads: Mapping[FileId, Seq]) -> Iterator[str]:
    """Pack file ids and seqs into as few payloads as they fit in."""
    pairs: list[str] = []
    used_bytes = 0
    for file_id, seq in heads.items():
        pair = f"{file_id}:{seq}"
        if used_bytes + len(pair) > MAX_PAYLOAD_BYTES:
            yield ",".join(pairs)
            pairs, used_bytes = [], 0
        pairs.append(pair)
        used_bytes += len(pair) + 1
    if pairs:
        yield ",".join(pairs)


def decode(payload: str) -> Iterable[tuple[FileId, Seq]]:
    """Unpack one payload; what is not a pair is passed over."""
    for pair in payload.split(","):
        file_id, _, seq = pair.partition(":")
        if file_id and _SEQ.fullmatch(seq):
            yield FileId(file_id), Seq(int(seq))


def echo(nonce: str) -> str:
    """Write the listener's own doorbell."""
    return _ECHO + nonce


def echoed(payload: str) -> str | None:
    """Return the nonce if the payload is an echo."""
    return payload[1:] if payload.startswith(_ECHO) else None
