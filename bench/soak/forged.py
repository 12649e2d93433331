"""
Reports that nobody with a key has signed: none is taken.

Most tries are made at `gateway.auth` itself, where every byte of a genuine
report is altered; a good part of them go over the wire to a real gateway, with
replays, other files and other doors.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

from bench.server import post
from bench.soak.held import complaints, held, left
from bench.soak.part import Outcome, Part, Size, at_least, none, told
from bench.soak.stage import Stage
from bench.soak.volley import CONNECTIONS, Line
from gateway.auth import SIGNATURE_TOLERANCE_S, Signatures, WatchTokens
from gateway.errors import InvalidError, UnauthorizedError
from gateway.protocol import jws
from lambdas.gateway import signature

_TRIES = {Size.SHORT: (6_000, 2_000), Size.FULL: (900_000, 100_000)}
"""At `gateway.auth`, and over the wire."""

_TOKENS_OF = 10
"""One of so many tries at `gateway.auth` is a watch token."""

_REPLAYS_OF = 15
"""At least one of so many over the wire; there are fourteen kinds."""

_BATCH = 8
_GENUINE = 20
_KEY = b"k" * 24
_SECRET = "s" * 32
_NAMES = ("webhook-id", "webhook-timestamp", "webhook-signature")
_PRINTABLE = bytes(range(0x21, 0x7F))

_STORED = """
select (select count(*) from events) + (select count(*) from ingest_ids)
"""


async def _forged(size: Size) -> Outcome:
    inside, outside = _TRIES[size]
    accepted = _accepted_inside(inside)
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        wire = _Wire(stage)
        before = await _stored(stage)
        wire.volleys(min(outside, CONNECTIONS * _BATCH))
        base = await held(stage)
        wire.volleys(outside - wire.tried)
        end = await held(stage)
        after = await _stored(stage)
        wrongs = complaints(stage)
    return Outcome(
        figures=[
            told("tries at gateway.auth", inside),
            told("tries over the wire", wire.tried),
            at_least(
                "replays over the wire, answered as the first time",
                wire.answers["the same again: 200"],
                wire.tried // _REPLAYS_OF,
            ),
            none("accepted by gateway.auth", accepted),
            none("accepted over the wire", wire.accepted),
            none("events or webhook-ids they left", after - before),
            none("lines of complaint", len(wrongs)),
            *left(base, end),
        ],
        samples={"answers": dict(sorted(wire.answers.items())), "log": wrongs[:50]},
    )


async def _stored(stage: Stage) -> int:
    async with stage.database() as database:
        return int(await database.fetchval(_STORED))


def _accepted_inside(tries: int) -> int:
    """Alter reports and tokens, each in another place; count what was taken."""
    chance = random.Random(7)
    now_s = 1_800_000_000
    checker = Signatures((_KEY,), clock=lambda: now_s)
    body = b'{"type":"canceled","occurred_at":"2026-01-02T03:04:05Z","job_id":"j-1"}'
    genuine = _signed(_KEY, "w-1", now_s, body)
    if checker.verify(_headers(genuine), body) != "w-1":
        raise ValueError("what is genuine is refused")
    tokens = WatchTokens((_SECRET,))
    claims = {"aud": "reelready", "exp": int(time.time()) + 86_400, "files": ["f-1"]}
    token = jws.sign(claims, _SECRET.encode())
    tokens.read(token)
    accepted = 0
    for number in range(tries):
        if number % _TOKENS_OF == 0:
            accepted += _is_read(tokens, _altered(chance, token.encode()))
            continue
        parts = [*genuine, body]
        which = number % len(parts)
        parts[which] = _altered(chance, parts[which])
        *signed, said = parts
        accepted += _is_taken(checker, _headers(signed), said)
    return accepted


def _altered(chance: random.Random, genuine: bytes) -> bytes:
    """Put another byte in the place of one, or leave the end out."""
    at = chance.randrange(len(genuine))
    if chance.randrange(16) == 0:
        return genuine[:at]
    other = genuine[at] ^ chance.randrange(1, 256)
    return genuine[:at] + bytes([other]) + genuine[at + 1 :]


def _is_taken(checker: Signatures, headers: dict[str, str], body: bytes) -> bool:
    try:
        checker.verify(headers, body)
    except (UnauthorizedError, InvalidError):
        return False
    return True


def _is_read(tokens: WatchTokens, token: bytes) -> bool:
    try:
        tokens.read(token.decode("latin-1"))
    except UnauthorizedError:
        return False
    return True


def _headers(parts: list[bytes]) -> dict[str, str]:
    return {
        name: part.decode("latin-1") for name, part in zip(_NAMES, parts, strict=True)
    }


def _signed(key: bytes, webhook_id: str, at_s: int, body: bytes) -> list[bytes]:
    signed = signature(key, webhook_id, at_s, body)
    return [webhook_id.encode(), str(at_s).encode(), signed.encode()]


class _Wire:
    """
    Forgeries of what a real gateway has taken.

    Attributes:
        accepted: Forgeries that were answered with 2xx.
        answers: By kind of forgery and status.
    """

    def __init__(self, stage: Stage) -> None:
        self.accepted = self.tried = 0
        self.answers: Counter[str] = Counter()
        self._port = stage.port
        self._key = stage.known.ingest
        self._api_key = stage.known.api_key
        self._chance = random.Random(7)
        self._mine, self._other = self._new_file(), self._new_file()
        self._genuine = [self._report(number) for number in range(_GENUINE)]
        self._kinds = self._forgeries()

    def volleys(self, tries: int) -> None:
        """Send so many forgeries, rounded up to whole volleys."""
        lines = [Line(self._port) for _ in range(CONNECTIONS)]
        for _ in range(-(-tries // (CONNECTIONS * _BATCH))):
            sent = [[next(self._kinds) for _ in range(_BATCH)] for _ in lines]
            for line, batch in zip(lines, sent, strict=True):
                line.send([raw for _, raw in batch])
            for line, batch in zip(lines, sent, strict=True):
                answers = line.answers(_BATCH)
                for (kind, _), (status, _) in zip(batch, answers, strict=True):
                    self._judge(kind, status)
        for line in lines:
            line.close()

    def _judge(self, kind: str, status: int) -> None:
        self.tried += 1
        self.answers[f"{kind}: {status}"] += 1
        # The same delivery twice is answered the same, and leaves nothing.
        self.accepted += status < 300 and kind != "the same again"

    def _new_file(self) -> str:
        said = b'{"name":"a.mp4","content_type":"video/mp4","size":1}'
        line = Line(self._port)
        key = f"Authorization: Bearer {self._api_key}"
        line.send([post("/v1/files", said, key)])
        ((_, answer),) = line.answers(1)
        line.close()
        return str(json.loads(answer)["file"]["id"])

    def _report(self, number: int) -> tuple[list[bytes], bytes]:
        """Make a report that is taken, the first time it comes."""
        body = json.dumps(
            {
                "type": "converting",
                "occurred_at": "2026-01-02T03:04:05Z",
                "job_id": "j-1",
                "attempt": number + 1,
            }
        ).encode()
        parts = _signed(self._key, f"w-{number}", int(time.time()), body)
        line = Line(self._port)
        line.send([self._posted(parts, body)])
        ((status, answer),) = line.answers(1)
        line.close()
        if status != 200:
            raise ValueError(f"what is genuine is refused: {answer!r}")
        return parts, body

    def _posted(
        self, parts: list[bytes], body: bytes, file: str = "", door: str = "reports"
    ) -> bytes:
        lines = (
            f"{name}: {part.decode('latin-1')}"
            for name, part in zip(_NAMES, parts, strict=True)
        )
        return post(f"/v1/files/{file or self._mine}/{door}", body, *lines)

    def _forgeries(self) -> Iterator[tuple[str, bytes]]:
        kinds: dict[str, Callable[[list[bytes], bytes], bytes]] = {
            "an altered id": lambda parts, body: self._changed(parts, body, 0),
            "an altered time": lambda parts, body: self._changed(parts, body, 1),
            "an altered signature": lambda parts, body: self._changed(parts, body, 2),
            "an altered body": self._other_body,
            "another key": lambda parts, body: self._resigned(
                parts, body, b"x" * 32, 0
            ),
            "no key": lambda parts, body: self._resigned(parts, body, b"", 0),
            "an hour old": lambda parts, body: self._resigned(
                parts, body, self._key, -3600
            ),
            "a moment too old": lambda parts, body: self._resigned(
                parts, body, self._key, -SIGNATURE_TOLERANCE_S - 2
            ),
            "from tomorrow": lambda parts, body: self._resigned(
                parts, body, self._key, 86_400
            ),
            "a bare digest": lambda parts, body: self._posted(
                [*parts[:2], parts[2].removeprefix(b"v1,")], body
            ),
            "another version": lambda parts, body: self._posted(
                [*parts[:2], parts[2].replace(b"v1,", b"v1a,")], body
            ),
            "the same again": self._posted,
            "for another file": lambda parts, body: self._posted(
                parts, body, self._other
            ),
            "at another door": lambda parts, body: self._posted(
                parts, body, door="manifest"
            ),
        }
        while True:
            for kind, make in kinds.items():
                parts, body = self._chance.choice(self._genuine)
                yield kind, make(parts, body)

    def _changed(self, parts: list[bytes], body: bytes, which: int) -> bytes:
        parts = list(parts)
        at = self._chance.randrange(len(parts[which]))
        old = parts[which]
        others = _PRINTABLE.replace(old[at : at + 1], b"")
        parts[which] = old[:at] + bytes([self._chance.choice(others)]) + old[at + 1 :]
        return self._posted(parts, body)

    def _other_body(self, parts: list[bytes], body: bytes) -> bytes:
        return self._posted(parts, _altered(self._chance, body))

    def _resigned(
        self, parts: list[bytes], body: bytes, key: bytes, off_s: int
    ) -> bytes:
        webhook_id = f"{parts[0].decode()}-{self._chance.randrange(10**9)}"
        at_s = int(time.time()) + off_s
        return self._posted(_signed(key, webhook_id, at_s, body), body)


FORGED = Part(
    name="forged",
    rows="I8 A2 A7",
    about="forged, replayed and altered reports and tokens: none is taken",
    run=_forged,
)
