"""
Guesses at files: random ids and near misses, without a credential or with another's.

None may cost the database a statement.  What the gateway asks by itself meanwhile
is known from an idle time: Postgres counts each statement (pg_stat_statements).
Owners' tokens and API keys are left out: theirs are looked up, and share a read.
"""

import asyncio
import base64
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import asyncpg
import jwt

from bench.ours import Secrets
from bench.server import get, post
from bench.soak.held import complaints, held, left
from bench.soak.ledger import Ledger
from bench.soak.part import Figure, Outcome, Part, Size, at_least, none, told
from bench.soak.reporter import Reporter
from bench.soak.stage import Stage
from bench.soak.volley import CONNECTIONS, Line

_RATE = 5_000
"""A second at most: the bar's."""

_BASE_OF = 10
"""After so large a part of all guesses, what is held is the base line."""

_BATCH = 8
_COLD = 16
"""Of each volley: for aiohttp, which closes after its answer."""

_FILES = 20
_SHAPE = "0123456789abcdefghijklmnopqrstuvwxyz-"
_OF_TOKENS = _SHAPE + "_ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LIFE_S = 86_400
_SETTINGS = {"shared_preload_libraries": "pg_stat_statements"}
_CALLS = """
select query, sum(calls)::bigint as calls from pg_stat_statements
where query !~ 'pg_stat_' group by query
"""
"""Of everybody but us."""

_READS = (
    ("", ""),
    ("?wait=25", 'If-None-Match: "1"'),
    ("?after=1&wait=25", ""),
    ("/events?wait=0", ""),
    ("/events?after=1&wait=25", ""),
    ("/events", "Accept: text/event-stream"),
    ("/events?lastEventId=1", "Accept: text/event-stream"),
)
_BODY = b'{"type":"canceled","occurred_at":"2026-01-02T03:04:05Z"}'


@dataclass(frozen=True)
class _Plan:
    guesses: int
    idle_s: float


_PLANS = {
    Size.SHORT: _Plan(guesses=3_000, idle_s=0.5),
    Size.FULL: _Plan(guesses=1_500_000, idle_s=60.0),
}


@dataclass(frozen=True)
class Guess:
    """
    One request.

    Attributes:
        kind: What it is shown with.
        status: What it must be answered.
    """

    kind: str
    status: int
    raw: bytes


@dataclass(frozen=True)
class Asked:
    """How often each statement was made in a time."""

    seconds: float
    calls: Mapping[str, int] = field(default_factory=dict)


def beyond(known: Collection[str], idle: Asked, busy: Asked) -> dict[str, int]:
    """
    Count the statements that no timer of an idle gateway accounts for.

    A timer that is seen n times in T has a period of T / (n + 1) at least, so in S
    it is seen S (n + 1) / T + 1 times at most.

    Args:
        known: Statements that were made before the idle time, and may be in it.
    """
    times = busy.seconds / idle.seconds
    found = {}
    for query, count in busy.calls.items():
        is_timers = query in known or query in idle.calls
        most = (idle.calls.get(query, 0) + 1) * times + 1 if is_timers else 0
        if count > most:
            found[query] = count - int(most)
    return found


def judged(others: int, extra: Mapping[str, int], reads: int) -> list[Figure]:
    """
    Judge what guesses were answered, and what they cost.

    Args:
        others: As of `Guesser`.
        extra: As `beyond`.
        reads: Of files, as the gateway counts them.
    """
    return [
        none("answers other than the refusal that is due", others),
        none("statements that they cost the database", sum(extra.values())),
        none("reads by the gateway's own count", reads),
    ]


async def _guesses(size: Size) -> Outcome:
    plan = _PLANS[size]
    async with Stage(postgres=_SETTINGS) as stage:
        async with stage.database() as database:
            await database.execute("create extension pg_stat_statements")
            await stage.start_gateway()
            await stage.ready()
            known = await _calls(database)
            async with Reporter(stage, Ledger()) as reporter:
                files = [await reporter.register() for _ in range(_FILES)]
            guesser = Guesser(stage.port, stage.known, dict(files))
            look = _Look(database)
            await look.begin()
            await asyncio.sleep(plan.idle_s)
            idle = await look.end()
            reads = (await stage.metrics())["feed_read_seconds_count"]
            await look.begin()
            await guesser.come(plan.guesses // _BASE_OF)
            base = await held(stage)
            await guesser.come(plan.guesses - guesser.tried)
            busy = await look.end()
            end = await held(stage)
            reads = (await stage.metrics())["feed_read_seconds_count"] - reads
        wrongs = complaints(stage)
    extra = beyond(known, idle, busy)
    return Outcome(
        figures=[
            at_least("guesses", guesser.tried, plan.guesses),
            told("guesses a second", guesser.tried / guesser.took_s),
            *judged(guesser.others, extra, reads),
            none("lines of complaint", len(wrongs)),
            *left(base, end),
        ],
        samples={
            "answers": dict(sorted(guesser.answers.items())),
            "idle": {"seconds": idle.seconds, "statements": _short(idle.calls)},
            "guessing": {"seconds": busy.seconds, "statements": _short(busy.calls)},
            "beyond": _short(extra),
            "log": wrongs[:50],
        },
    )


def _short(calls: Mapping[str, int]) -> list[tuple[int, str]]:
    return [(count, query.strip()[:200]) for query, count in calls.items()]


async def _calls(database: "asyncpg.Connection[asyncpg.Record]") -> Counter[str]:
    rows = await database.fetch(_CALLS)
    return Counter({row["query"]: row["calls"] for row in rows})


class _Look:
    """Counts statements from `begin` to `end`."""

    def __init__(self, database: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._database = database

    async def begin(self) -> None:
        self._before = await _calls(self._database)
        self._began_s = time.monotonic()

    async def end(self) -> Asked:
        calls = await _calls(self._database) - self._before
        return Asked(time.monotonic() - self._began_s, calls)


class Guesser:
    """
    Who guesses.

    Args:
        files: That there are, each with its watch token.

    Attributes:
        answers: By kind of guess and status.
        others: Answers that were not what is due.
        took_s: To make all guesses.
    """

    def __init__(self, port: int, known: Secrets, files: Mapping[str, str]) -> None:
        self.tried = self.others = 0
        self.took_s = 0.0
        self.answers: Counter[str] = Counter()
        self._port = port
        self._known = known
        self._chance = random.Random(7)
        self._tokens = dict(files)
        self._ids = list(files)
        self._expired = _signed(known.token, self._ids[0], life_s=-1)
        self._hot = self._guesses()
        self._cold = self._stories()

    async def come(self, guesses: int) -> None:
        """Make so many, rounded up to whole volleys, no faster than is asked for."""
        began_s, before = time.monotonic(), self.tried
        lines = [Line(self._port) for _ in range(CONNECTIONS)]
        while self.tried < before + guesses:
            self._throw(lines, self._hot, _BATCH)
            once = [Line(self._port) for _ in range(_COLD)]
            self._throw(once, self._cold, 1)
            for line in once:
                line.close()
            due_s = began_s + (self.tried - before) / _RATE
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        for line in lines:
            line.close()
        self.took_s += time.monotonic() - began_s

    def _throw(self, lines: list[Line], guesses: Iterator[Guess], each: int) -> None:
        batches = [list(islice(guesses, each)) for _ in lines]
        for line, batch in zip(lines, batches, strict=True):
            line.send([guess.raw for guess in batch])
        for line, batch in zip(lines, batches, strict=True):
            for guess, (status, _) in zip(batch, line.answers(each), strict=True):
                self.hear(guess, status)

    def hear(self, guess: Guess, status: int) -> None:
        """Take one answer."""
        self.tried += 1
        self.answers[f"{guess.kind}: {status}"] += 1
        self.others += status != guess.status

    def _guesses(self) -> Iterator[Guess]:
        """Where the connection stays: reads, boards, reports and manifests."""
        shown: dict[str, tuple[int, Callable[[str, str], str]]] = {
            "no credential": (401, lambda *_: ""),
            "a token for another file": (404, lambda own, _: self._tokens[own]),
            "an altered token": (401, lambda own, _: self._altered_token(own)),
            "another's signature": (401, self._with_signature_of),
            "another secret": (401, lambda _, guess: _signed("x" * 40, guess)),
            "an expired token": (401, lambda *_: self._expired),
        }
        while True:
            for kind, (status, token_for) in shown.items():
                own, guess = self._pair()
                token = token_for(own, guess)
                rest, line = self._chance.choice(_READS)
                board = f"file={own}&" * self._chance.randrange(2) + f"file={guess}"
                for path in (f"/v1/files/{guess}{rest}", f"/v1/events?{board}"):
                    yield Guess(kind, status, self._asked(path, line, token))
            for kind in ("no signature", "another body's signature"):
                yield Guess(kind, 401, self._report(kind))

    def _stories(self) -> Iterator[Guess]:
        """Where it does not: the history, which takes an API key alone."""
        while True:
            own, guess = self._pair()
            for kind, token in (
                ("no credential", ""),
                ("a token for another file", self._tokens[own]),
                ("its own token", _signed(self._known.token, guess)),
            ):
                path = f"/v1/files/{guess}/history"
                yield Guess(f"history, {kind}", 401, self._asked(path, "", token))

    def _pair(self) -> tuple[str, str]:
        """Choose a file, and an id that is not its own."""
        own = self._chance.choice(self._ids)
        while (guess := self._guess()) == own:
            pass
        return own, guess

    def _guess(self) -> str:
        real = self._chance.choice(self._ids)
        match self._chance.randrange(5):
            case 0:
                return real
            case 1:
                return f"{real[:-12]}{(int(real[-12:], 16) + 1) % 16**12:012x}"
            case 2:
                return self._altered(real, _SHAPE)
            case 3:
                length = self._chance.randint(1, 64)
                return "".join(self._chance.choices(_SHAPE, k=length))
            case _:
                drawn = f"{self._chance.getrandbits(72):018x}"
                return f"{real[:15]}{drawn[:3]}-{drawn[3:6]}8-{drawn[6:]}"

    def _altered(self, text: str, letters: str) -> str:
        at = self._chance.randrange(len(text))
        other = self._chance.choice(letters.replace(text[at], ""))
        return text[:at] + other + text[at + 1 :]

    def _altered_token(self, own: str) -> str:
        return self._altered(self._tokens[own], _OF_TOKENS)

    def _with_signature_of(self, own: str, guess: str) -> str:
        head, _, signature = self._tokens[own].split(".")
        claims = json.dumps(_claims(guess, _LIFE_S)).encode()
        middle = base64.urlsafe_b64encode(claims).decode().rstrip("=")
        return f"{head}.{middle}.{signature}"

    def _asked(self, path: str, line: str, token: str) -> bytes:
        """Ask with a token in one of the places where one is looked for."""
        lines = [line] * bool(line)
        if token:
            match self._chance.randrange(3):
                case 0:
                    lines.append(f"Authorization: Bearer {token}")
                case 1:
                    lines.append(f"Cookie: reelready={token}")
                case _:
                    path += f"{'&' if '?' in path else '?'}token={token}"
        return get(path, *lines) + b"\r\n"

    def _report(self, kind: str) -> bytes:
        door = self._chance.choice(("reports", "manifest"))
        lines = self._known.signed(f"g-{self.tried}", b"{}")
        path = f"/v1/files/{self._guess()}/{door}"
        return post(path, _BODY, *(() if kind == "no signature" else lines))


def _signed(secret: str, file_id: str, life_s: int = _LIFE_S) -> str:
    return jwt.encode(_claims(file_id, life_s), secret, algorithm="HS256")


def _claims(file_id: str, life_s: int) -> dict[str, object]:
    return {"aud": "reelready", "exp": int(time.time()) + life_s, "files": [file_id]}


GUESSES = Part(
    name="guesses",
    rows="H7",
    about="guesses at file ids: refused without a look at the database",
    run=_guesses,
)
