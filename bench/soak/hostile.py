"""
Hostile requests and cursors over real sockets: no 5xx, no traceback, no leak.

Most of them are whole requests with a good credential and anything at all as
cursor, id, wait, token or body, on connections that stay; the others are bytes
that are nearly a request, each on a connection of its own that ends somehow.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

from bench.server import post
from bench.soak.held import complaints, held, left
from bench.soak.mutating import mutated
from bench.soak.part import Outcome, Part, Size, at_least, none, told
from bench.soak.stage import Stage
from bench.soak.volley import CONNECTIONS, Line, throw

_TRIES = {Size.SHORT: 3_000, Size.FULL: 1_000_000}
_BASE_OF = 10
"""After so large a part of all tries, what is held is the base line."""

_READ, _PARSED = 0.2, 0.1
"""Of all tries: answers of 200, and of 422; the rest may end at the door."""

_BATCH = 8
_THROWS = 2
"""Volleys of bytes that are nearly requests, to one of whole requests."""

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
_CURSORS = (
    b"1",
    b"0",
    b"999999999",
    b"-1",
    b'W/"1", "2"',
    b"1; drop table events",
    b"\xd9\xa1\xd9\xa2",
    b"9" * 400,
    b"[object Object]",
    b"../../etc/passwd",
)
_AT = '"occurred_at":"2026-01-02T03:04:05Z"'
_URI = '"s3://reelready-bench/video/hls/x/master.m3u8"'
_BODIES = tuple(
    body.encode()
    for body in (
        f'{{"type":"progress",{_AT},"percent":4}}',
        f'{{"type":"failed",{_AT},"job_id":"j-2","error":{{"code":"c"}}}}',
        f'{{"job_id":"j-1",{_AT},"renditions":[{{"width":1}}],"master_playlist":{_URI}}}',
        '{"name":"a.mp4","content_type":"video/mp4","size":1,"metadata":{"a":[1]}}',
    )
)


async def _hostile(size: Size) -> Outcome:
    tries = _TRIES[size]
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        crowd = _Crowd(stage)
        fresh = await held(stage)
        crowd.come(tries // _BASE_OF)
        base = await held(stage)
        crowd.come(tries - crowd.tried)
        end = await held(stage)
        wrongs = complaints(stage)
    return Outcome(
        figures=[
            told("tries", crowd.tried),
            told("of them, whole requests", crowd.tried - crowd.broken),
            told("answers", crowd.answers.total()),
            at_least("answers of 200", crowd.answers[200], _READ * tries),
            at_least("answers of 422", crowd.answers[422], _PARSED * tries),
            none("server errors seen", crowd.server_errors),
            none("lines of complaint", len(wrongs)),
            *left(base, end),
            told("memory left, of that before any", end.pss_kib / fresh.pss_kib),
        ],
        samples={
            "answers": {str(one): n for one, n in sorted(crowd.answers.items())},
            "fresh": fresh,
            "base": base,
            "end": end,
            "log": wrongs[:50],
        },
    )


class _Crowd:
    """
    Who sends all that.

    Attributes:
        broken: Tries that were bytes, not requests.
        answers: By status.
    """

    def __init__(self, stage: Stage) -> None:
        self.tried = self.broken = 0
        self.answers: Counter[int] = Counter()
        self._stage = stage
        self._chance = random.Random(7)
        self._lines = [Line(stage.port)]
        self._ids = [self._new_file() for _ in range(20)]
        for file_id in self._ids[:10]:
            self._end_it(file_id)
        self._lines.pop().close()
        self._whole = self._requests()
        self._bytes = self._nearly()

    @property
    def server_errors(self) -> int:
        """How many answers were 500 or more."""
        return sum(count for status, count in self.answers.items() if status >= 500)

    def come(self, tries: int) -> None:
        """Send so many, rounded up to whole volleys, and leave."""
        until = self.tried + tries
        self._lines = [Line(self._stage.port) for _ in range(CONNECTIONS)]
        while self.tried < until:
            self._ask()
            for _ in range(_THROWS):
                self._throw()
        for line in self._lines:
            line.close()

    def _ask(self) -> None:
        for line in self._lines:
            line.send(list(islice(self._whole, _BATCH)))
        for line in self._lines:
            self.answers.update(status for status, _ in line.answers(_BATCH))
        self.tried += _BATCH * len(self._lines)

    def _throw(self) -> None:
        how = self._chance.choice(("half", "half", "read", "reset"))
        raws = list(islice(self._bytes, CONNECTIONS))
        for heard in throw(self._stage.port, raws, how):
            self.answers.update(int(status) for status in _STATUS.findall(heard))
        self.tried += len(raws)
        self.broken += len(raws)

    def _requests(self) -> Iterator[bytes]:
        """Whole requests that are answered, and keep their connection."""
        cursors = mutated(_CURSORS, 1)
        bodies = mutated(_BODIES, 2)
        makers: list[Callable[[bytes], bytes]] = [
            lambda odd: self._get(f"/events?after={_quoted(odd)}&wait=0"),
            lambda odd: self._get(f"/events?lastEventId={_quoted(odd)}&wait=0"),
            lambda odd: self._get("/events?wait=0", "Last-Event-ID", odd),
            lambda odd: self._get("?wait=0", "If-None-Match", odd),
            lambda odd: self._get(f"?after={_quoted(odd)}&wait=0"),
            lambda odd: self._get(f"?wait={_quoted(odd)}x"),
            lambda odd: self._get("?wait=0", "Prefer", b"wait=0, " + odd),
            lambda odd: self._get("?wait=0", "Cookie", b"reelready=" + odd),
            lambda odd: self._anonymous(f"?token={_quoted(odd)}", b""),
            lambda odd: self._anonymous("", b"Authorization: Bearer " + _plain(odd)),
            lambda odd: self._file(f"{odd.hex()[:60] or '-'}/events?wait=0"),
            lambda odd: self._file(f"x?{'&'.join([_quoted(odd)] * 3)}"),
        ]
        while True:
            for make in makers:
                yield make(next(cursors)[:500])
            yield self._report(next(bodies), "reports")
            yield self._report(next(bodies), "manifest")

    def _nearly(self) -> Iterator[bytes]:
        """Bytes that are nearly requests; some open streams."""
        stream = self._get("/events", "Accept", b"text/event-stream")
        seeds = [
            stream,
            self._get(""),
            self._get("/events", "Last-Event-ID", b"1") * 2,
            self._file(f"../events?file={self._ids[0]}"),
            self._file("%00%2e%2e%2f%ff/events?wait=0"),
            self._file(f"{self._ids[0]}/history"),
            self._report(_BODIES[0], "reports"),
            self._report(_BODIES[0], "reports").replace(
                b"Content-Length", b"Transfer-Encoding: chunked\r\nX-Length"
            ),
            post("/v1/files", _BODIES[3], *self._key()),
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            b"GET /metrics HTTP/1.0\r\n\r\n",
            b"OPTIONS /v1/files HTTP/1.1\r\nHost: h\r\nOrigin: null\r\n\r\n",
        ]
        return mutated(seeds, 3)

    def _get(self, rest: str, name: str = "X-Odd", odd: bytes = b"") -> bytes:
        field = name.encode() + b": " + _plain(odd)
        return self._file(self._chance.choice(self._ids) + rest, field)

    def _file(self, rest: str, field: bytes = b"X: y") -> bytes:
        (key,) = self._key()
        return (
            f"GET /v1/files/{rest} HTTP/1.1\r\nHost: h\r\n{key}\r\n".encode()
            + field
            + b"\r\n\r\n"
        )

    def _anonymous(self, query: str, field: bytes) -> bytes:
        file_id = self._chance.choice(self._ids)
        head = f"GET /v1/files/{file_id}{query} HTTP/1.1\r\nHost: h\r\n".encode()
        return head + (field and field + b"\r\n") + b"\r\n"

    def _report(self, body: bytes, door: str) -> bytes:
        webhook_id = f"h-{self._chance.randrange(10**12)}"
        signed = self._stage.known.signed(webhook_id, body)
        file_id = self._chance.choice(self._ids[:10])
        return post(f"/v1/files/{file_id}/{door}", body, *signed)

    def _key(self) -> list[str]:
        return [f"Authorization: Bearer {self._stage.known.api_key}"]

    def _new_file(self) -> str:
        self._lines[0].send([post("/v1/files", _BODIES[3], *self._key())])
        ((_, answer),) = self._lines[0].answers(1)
        # A page or a registration is the last answer of its connection.
        self._lines.pop().close()
        self._lines.append(Line(self._stage.port))
        return str(json.loads(answer)["file"]["id"])

    def _end_it(self, file_id: str) -> None:
        body = b'{"type":"canceled","occurred_at":"2026-01-02T03:04:05Z"}'
        signed = self._stage.known.signed(f"end-{file_id}", body)
        self._lines[0].send([post(f"/v1/files/{file_id}/reports", body, *signed)])
        self._lines[0].answers(1)


def _quoted(odd: bytes) -> str:
    return "".join(f"%{octet:02x}" for octet in odd)


def _plain(odd: bytes) -> bytes:
    """Leave out what llhttp refuses in a field, and the connection with it."""
    return bytes(octet for octet in odd if octet >= 0x20 and octet != 0x7F)


HOSTILE = Part(
    name="hostile",
    rows="H1 H5 H8 H11",
    about="hostile requests and cursors: no 5xx, no traceback, nothing left",
    run=_hostile,
)
