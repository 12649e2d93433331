"""
Bytes that are nearly right: seeds, changed here and there, and mixed.

For where no coverage can guide; the same seed of the random numbers makes the
same bytes.
"""

import random
from collections.abc import Iterator, Sequence

MAX_BYTES = 4096

_WORDS = (
    b"",
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b'"',
    b",",
    b"-1",
    b"%00",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"\xe2\x80\xae",
    b"null",
    b"true",
    b"1e999",
    b"9" * 20,
    b"0001-01-01T00:00:00+14:00",
    b"..",
    b"[" * 200,
    b"{}",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 5\r\n",
    b" HTTP/1.1\r\n",
    b"POST /v1/files/f-1/reports HTTP/1.1\r\nHost: h\r\n\r\n",
)


def mutated(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Make such bytes without end; the seeds themselves come first."""
    yield from seeds
    chance = random.Random(seed)
    while True:
        raw = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            at = chance.randrange(len(raw) + 1)
            end = at + chance.choice((0, 0, 1, 1, 4, 16))
            raw[at:end] = _piece(chance, seeds, raw, at)
        yield bytes(raw[:MAX_BYTES])


def _piece(
    chance: random.Random, seeds: Sequence[bytes], raw: bytearray, at: int
) -> bytes:
    match chance.randrange(5):
        case 0:
            return bytes([chance.randrange(256)])
        case 1:
            return bytes([raw[at] ^ 1 << chance.randrange(8)]) if at < len(raw) else b""
        case 2:
            return chance.choice(_WORDS)
        case 3:
            other = chance.choice(seeds)
            start = chance.randrange(len(other) + 1)
            return other[start : start + chance.randrange(64)]
        case _:
            return bytes(raw[at : at + chance.randrange(16)]) * chance.randrange(3)
