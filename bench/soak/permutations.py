"""
The same reports in every order, doubled and at the same time: one end.

Each file has one of a few stories.  Its reports are sent in a random order, one
after the other or all at once, each from one to five times at the same moment
under one webhook id, and some again under another.  Here and there an id that
was used comes with another body or for another file, which must be refused.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import aiohttp
import msgspec

from bench.soak.part import Outcome, Part, Size, none, told
from bench.soak.stage import Stage
from local.environment import LOOPBACK

MAX_COPIES = 5

_FILES = {Size.SHORT: 100, Size.FULL: 10_000}
_SENDERS = 48
_BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
_ERROR = {"code": "no_video", "message": "There is no video in this file."}
_OURS = ("id", "seq", "created_at", "updated_at")
"""What differs from file to file, and with the order."""

_MAX_ATTEMPT = 2
_FORGED = {"type": "canceled", "attempt": 9}
"""What is said under an id that was used: nobody can miss it if it is stored."""

_EVENTS = """
select file_id, seq, state ->> 'status' as status,
       (state ->> 'attempt')::integer as attempt
from events order by file_id, seq
"""
_TERMINAL = {"playable", "failed", "canceled"}


@dataclass(frozen=True, eq=False)
class _Story:
    """What is reported of a file, and how it must end in any order."""

    end: str
    reports: tuple[dict[str, Any], ...]


def _attempt(number: int, *reports: dict[str, Any]) -> list[dict[str, Any]]:
    job = {"attempt": number, "job_id": f"j-{number}"}
    return [job | report for report in reports]


def _progress(phase: str, percent: int | None = None) -> dict[str, Any]:
    return {"type": "progress", "phase": phase, "percent": percent}


def _story(end: str, *reports: dict[str, Any]) -> _Story:
    return _Story(
        end,
        tuple(
            report | {"occurred_at": (_BEGAN + timedelta(seconds=place)).isoformat()}
            for place, report in enumerate(reports)
        ),
    )


_UPLOADED = {"type": "uploaded"}
_CONVERTING = {"type": "converting"}
_COMPLETED = {"type": "completed"}
_FAILED = {"type": "failed", "error": _ERROR}

STORIES = (
    _story(
        "playable",
        _UPLOADED,
        *_attempt(
            1,
            _CONVERTING,
            _progress("probing"),
            _progress("transcoding", 20),
            _progress("transcoding", 80),
            _progress("uploading", 95),
            _COMPLETED,
        ),
    ),
    _story("playable", _UPLOADED, *_attempt(1, _COMPLETED)),
    _story(
        "failed",
        _UPLOADED,
        *_attempt(1, _CONVERTING, _progress("transcoding", 7), _FAILED),
    ),
    _story("canceled", _UPLOADED, *_attempt(1, _CONVERTING, {"type": "canceled"})),
    _story(
        "playable",
        _UPLOADED,
        *_attempt(1, _CONVERTING, _FAILED),
        *_attempt(2, _CONVERTING, _progress("transcoding", 50), _COMPLETED),
    ),
)


class _Senders:
    """
    Lambdas that AWS runs too often.

    Attributes:
        counts: What was sent, and what should not have happened.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._stage = stage
        self._random = random.Random(seed)

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            f"http://{LOOPBACK}:{self._stage.port}",
            connector=aiohttp.TCPConnector(limit=4 * _SENDERS),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def register(self) -> str:
        """Make a file; returns its id."""
        said = {"name": "a.mp4", "content_type": "video/mp4", "size": 10}
        headers = {"Authorization": f"Bearer {self._stage.known.api_key}"}
        async with self._http.post("/v1/files", json=said, headers=headers) as answer:
            made = await answer.json()
        file_id: str = made["file"]["id"]
        return file_id

    async def tell(self, file_id: str, story: _Story) -> None:
        """Report a file's story, in any order and too often."""
        deliveries = [
            self._repeated(file_id, report, f"{file_id}-{place}-{way}")
            for place, report in enumerate(story.reports)
            for way in range(self._random.choice((1, 1, 2)))
        ]
        self._random.shuffle(deliveries)
        if self._random.random() < 0.5:
            await asyncio.gather(*deliveries)
        else:
            for delivery in deliveries:
                await delivery

    async def _repeated(
        self, file_id: str, report: dict[str, Any], webhook_id: str
    ) -> None:
        copies = self._random.randint(1, MAX_COPIES)
        answers = await asyncio.gather(
            *(self._post(file_id, report, webhook_id) for _ in range(copies))
        )
        self.counts["reports"] += 1
        self.counts["not taken"] += any(status != 200 for status, _ in answers)
        self.counts["answered otherwise"] += len(set(answers)) != 1
        if self._random.random() < 0.1:
            forged = report | _FORGED
            status, _ = await self._post(file_id, forged, webhook_id)
            self.counts["ids used again"] += 1
            self.counts["used again and taken"] += status != 422

    async def contest(self, one: str, other: str) -> None:
        """Use one id at the same moment for two files, and for two bodies."""
        report = STORIES[0].reports[0]
        later = report | {"occurred_at": _BEGAN.replace(hour=13).isoformat()}
        for rivals in (
            [(one, report), (other, report)],
            [(one, report), (one, later)],
        ):
            webhook_id = f"contest-{one}-{self.counts['contests']}"
            self.counts["contests"] += 1
            answers = await asyncio.gather(
                *(self._post(file_id, said, webhook_id) for file_id, said in rivals)
            )
            statuses = sorted(status for status, _ in answers)
            self.counts["contests without one winner"] += statuses != [200, 422]

    async def _post(
        self, file_id: str, report: dict[str, Any], webhook_id: str
    ) -> tuple[int, bytes]:
        kind, body = "reports", report
        if report["type"] == "completed":
            kind, body = "manifest", report | _outputs(file_id)
        raw = msgspec.json.encode(body)
        headers = dict(
            line.split(": ", 1) for line in self._stage.known.signed(webhook_id, raw)
        )
        self.counts["posts"] += 1
        path = f"/v1/files/{file_id}/{kind}"
        async with self._http.post(path, data=raw, headers=headers) as answer:
            return answer.status, await answer.read()


def _outputs(file_id: str) -> dict[str, Any]:
    playlist = f"s3://reelready-bench/video/hls/{file_id}/master"
    return {
        "master_playlist": f"{playlist}.m3u8",
        "duration_ms": 30_500,
        "renditions": [{"playlist": f"{playlist}_480.m3u8", "height": 480}],
    }


async def _permutations(size: Size) -> Outcome:
    count = _FILES[size]
    seed = random.SystemRandom().randrange(2**32)
    async with Stage() as stage:
        await stage.start_gateway()
        await stage.ready()
        async with _Senders(stage, seed) as senders:
            began_s = time.monotonic()
            files = dict(zip(await _made(senders, count), _stories(), strict=False))
            await _each(senders.tell(*one) for one in files.items())
            some = list(files)[: count // 5]
            pairs = zip(some[::2], some[1::2], strict=True)
            await _each(senders.contest(*pair) for pair in pairs)
            took_s = time.monotonic() - began_s
        async with stage.database() as database:
            ends = await database.fetch("select id, state::text from files")
            events = await database.fetch(_EVENTS)
    counts = senders.counts
    return Outcome(
        figures=[
            told("files", len(ends)),
            told("posts", counts["posts"]),
            none("reports that were not taken", counts["not taken"]),
            none("repeats that were answered otherwise", counts["answered otherwise"]),
            none("ends that depend on the order", _other_ends(files, ends)),
            *_judged(files, events),
            none(
                "ids used again with another body and taken",
                counts["used again and taken"],
            ),
            none(
                "ids used twice at once without one winner",
                counts["contests without one winner"],
            ),
        ],
        samples={"seed": seed, "seconds": round(took_s, 1), "counts": dict(counts)},
    )


def _stories() -> Iterator[_Story]:
    while True:
        yield from STORIES


async def _made(senders: _Senders, count: int) -> list[str]:
    made: list[str] = []

    async def one() -> None:
        made.append(await senders.register())

    await _each(one() for _ in range(count))
    return made


async def _each(works: Iterator[Any]) -> None:
    """Run all of them, a few at a time."""

    async def sender() -> None:
        for work in works:
            await work

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_SENDERS):
            tasks.create_task(sender())


def _other_ends(files: dict[str, _Story], rows: list[Any]) -> int:
    """Count files that ended otherwise than the others of their story."""
    ends: dict[_Story, Counter[str]] = {story: Counter() for story in STORIES}
    wrong = 0
    text: str
    for file_id, text in rows:
        state = msgspec.json.decode(text.replace(file_id, "ID"))
        wrong += int(state["status"] != files[file_id].end)
        kept = {name: one for name, one in state.items() if name not in _OURS}
        ends[files[file_id]][msgspec.json.encode(kept, order="sorted").decode()] += 1
    return wrong + sum(len(seen) - 1 for seen in ends.values())


def _judged(files: dict[str, _Story], rows: list[Any]) -> Iterator[Any]:
    seqs: dict[str, list[int]] = {file_id: [] for file_id in files}
    terminal: Counter[tuple[str, int]] = Counter()
    forged = 0
    for file_id, seq, status, attempt in rows:
        seqs[file_id].append(seq)
        terminal[file_id, attempt] += status in _TERMINAL
        forged += attempt > _MAX_ATTEMPT
    yield none("ids used again with another body and stored", forged)
    yield none(
        "files without exactly one terminal event",
        sum(terminal[one, _last_attempt(story)] != 1 for one, story in files.items())
        + sum(count > 1 for count in terminal.values()),
    )
    yield none(
        "files with a gap in seq",
        sum(told != list(range(1, len(told) + 1)) for told in seqs.values()),
    )
    yield none(
        "files with more events than reports",
        sum(len(seqs[one]) > 1 + len(story.reports) for one, story in files.items()),
    )


def _last_attempt(story: _Story) -> int:
    attempts: list[int] = [report.get("attempt", 1) for report in story.reports]
    return max(attempts)


PERMUTATIONS = Part(
    name="permutations",
    rows="I1 I2 I3",
    about="the same reports in any order and too often end the same",
    run=_permutations,
)
