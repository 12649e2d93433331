"""
The invariants on a real Postgres and two real gateways.

What `tests/unit/gateway/test_invariants.py` does a thousand times a second is
done here some two hundred times for real: reports come doubled, late and at
once, at either gateway; listeners are killed, progress is pruned, a gateway
restarts.  Everybody who follows must have been told the same story, and from
every cursor all three ways of reading must tell the rest of it.
"""

import asyncio
import contextlib
import json
import random
import time
from dataclasses import dataclass, field

import aiohttp
import jwt
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bench.invariants.reports import reports_of
from bench.invariants.rules import INVARIANTS, judged, must
from bench.invariants.tables import height
from gateway import lifecycle
from gateway.model import TERMINAL, FileRecord, FileState
from gateway.protocol import manifest, report
from gateway.store.records import file_record
from tests.integration.conftest import API_KEY, BUCKET, TOKEN_SECRET, Gateway, _frames

EXAMPLES = 200
ELSEWHERE = {11, 17, 19, 22}
"""For real they are judged by the soak: `failover`, `stalled`, `upstream`, `drain`."""

HOSTILE = ("-1", "x" * 50, "9" * 12, "1.0")
FOLLOW_TIMEOUT_S = 20.0
OUTPUTS = manifest.Outputs(BUCKET, "video/hls/", "https://play.example.com/")

_KILL_LISTENERS = """
select pg_terminate_backend(pid) from pg_stat_activity
where application_name = 'reelready-listener' and datname = current_database()
"""
_PRUNE = """
delete from events e using files f
where f.id = e.file_id and e.file_id = $1 and e.type = 'progress' and e.seq < f.seq
returning e.seq
"""


@dataclass(frozen=True)
class Plan:
    """
    What happens to one file.

    Attributes:
        volleys: Reports that are sent at once: which of the story, and where to.
        followers: When each comes, and where to.
        faults: What goes wrong before which volley.
    """

    attempts: int
    end: str
    volleys: list[list[tuple[int, int]]]
    followers: list[tuple[int, int]]
    faults: dict[int, str]


@st.composite
def plans(draw) -> Plan:
    """Any reports in any order; the last of the story comes in the end."""
    attempts = draw(st.integers(1, 2))
    last = attempts * 6 - 1
    sent = st.tuples(st.integers(0, last), st.integers(0, 1))
    volleys = draw(st.lists(st.lists(sent, min_size=1, max_size=5), max_size=4))
    volleys.append([(last, draw(st.integers(0, 1)))] * draw(st.integers(1, 2)))
    when = st.integers(0, len(volleys) - 1)
    what = st.sampled_from(
        [*["nothing"] * 10, *["listeners", "prune"] * 4, "restart"],
    )
    return Plan(
        attempts,
        draw(st.sampled_from(["playable", "failed"])),
        volleys,
        draw(st.lists(st.tuples(when, st.integers(0, 1)), min_size=1, max_size=4)),
        draw(st.dictionaries(when, what, max_size=2)),
    )


@dataclass
class Told:
    """What one client was told: each seq, its data, and whether after a reset."""

    events: list[tuple[int, bytes, bool]] = field(default_factory=list)
    reset: bool = False

    def take(self, seq: int, data: bytes) -> None:
        self.events.append((seq, data, self.reset))
        self.reset = False

    @property
    def seqs(self) -> list[tuple[int, bool]]:
        return [(seq, reset) for seq, _, reset in self.events]


class Pair:
    """Two gateways on one database, each of which may restart."""

    def __init__(self, make, database_url: str) -> None:
        self._make = lambda: make(database_url, safety_read_seconds=3600)
        self._stacks: list[contextlib.AsyncExitStack] = []
        self.gateways: list[Gateway] = []
        self.http: aiohttp.ClientSession

    async def start(self) -> None:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        self.http = aiohttp.ClientSession(headers=headers)
        for _ in range(2):
            stack = contextlib.AsyncExitStack()
            self._stacks.append(stack)
            self.gateways.append(await stack.enter_async_context(self._make()))

    async def restart(self, number: int) -> None:
        await self._stacks[number].aclose()
        stack = self._stacks[number] = contextlib.AsyncExitStack()
        self.gateways[number] = await stack.enter_async_context(self._make())

    async def stop(self) -> None:
        await self.http.close()
        for stack in self._stacks:
            await stack.aclose()


@pytest.fixture
def runner():
    with asyncio.Runner() as one:
        yield one


@pytest.fixture
def pair(runner, make_gateway, database_url):
    one = Pair(make_gateway, database_url)
    runner.run(one.start())
    yield one
    runner.run(one.stop())


@pytest.mark.timeout(600)
def test_whatever_happens_every_way_of_reading_tells_the_same_story(runner, pair):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        database=None,
        phases=[Phase.generate, Phase.shrink],
    )
    @given(plan=plans(), seed=st.integers(0, 2**32))
    def try_one(plan, seed):
        runner.run(_live_through(pair, plan, random.Random(seed)))

    before = judged.copy()
    try_one()

    assert set(INVARIANTS) - ELSEWHERE == set(judged - before)


async def _live_through(pair: Pair, plan: Plan, chance: random.Random) -> None:
    file_id = await pair.gateways[0].new_file(name="휴가 (1).mov", owner="ann")
    other_id = await pair.gateways[0].new_file(owner="bob")
    said = reports_of(file_id, plan.attempts, plan.end)
    pruned: set[int] = set()
    answers: dict[str, bytes] = {}
    async with asyncio.timeout(FOLLOW_TIMEOUT_S), asyncio.TaskGroup() as tasks:
        followers = []
        for number, volley in enumerate(plan.volleys):
            await _go_wrong(pair, file_id, plan.faults.get(number, ""), pruned)
            for when, where in plan.followers:
                if when == number:
                    followers += [
                        tasks.create_task(_follow(pair, file_id, where)),
                        tasks.create_task(_poll(pair, file_id, where)),
                    ]
                    tasks.create_task(
                        _ask_as_a_stranger(pair, file_id, other_id, where)
                    )
            sent = [(said[index], where) for index, where in volley for _ in range(2)]
            chance.shuffle(sent)
            async with asyncio.TaskGroup() as posts:
                for one, where in sent:
                    posts.create_task(_send(pair, one, where, answers))
    truth = await _truth(pair, file_id)
    _judge_truth(truth, pruned)
    for raw in answers.values():
        seq = json.loads(raw)["seq"]
        must(2, seq in truth or seq in pruned, (seq, truth, pruned))
    await _judge_end(pair, file_id, said, answers, chance)
    for follower in followers:
        _judge_told(follower.result(), truth, pruned)
    await _judge_every_cursor(pair, file_id, truth, pruned)
    hubs = [gateway.built.hub for gateway in pair.gateways]
    for _ in range(100):
        if any(map(len, hubs)):
            await asyncio.sleep(0.05)
    must(16, not any(map(len, hubs)), list(map(len, hubs)))


async def _ask_as_a_stranger(
    pair: Pair, file_id: str, other_id: str, where: int
) -> None:
    """Ask with somebody else's token; it is as if there were no such file."""
    claims = {"aud": "reelready", "exp": int(time.time()) + 60, "files": [other_id]}
    token = jwt.encode(claims, TOKEN_SECRET, algorithm="HS256")
    headers = {"Authorization": f"Bearer {token}"}
    for path in (f"{file_id}/events?after=0&wait=10", file_id):
        url = f"{pair.gateways[where].url}/v1/files/{path}"
        try:
            async with pair.http.get(url, headers=headers) as answer:
                must(15, answer.status in {404, 503}, answer.status)
                must(15, file_id not in await answer.text(), file_id)
        except aiohttp.ClientError:
            continue  # it is being restarted


async def _go_wrong(pair: Pair, file_id: str, fault: str, pruned: set[int]) -> None:
    match fault:
        case "listeners":
            await pair.gateways[0].fetch(_KILL_LISTENERS)
        case "prune":
            rows = await pair.gateways[0].fetch(_PRUNE, file_id)
            pruned |= {seq for (seq,) in rows}
        case "restart":
            await pair.restart(1)


async def _send(pair: Pair, said, where: int, answers: dict[str, bytes]) -> None:
    status, answer = await pair.gateways[where].post(
        said.file_id, said.kind, said.body, webhook_id=said.webhook_id
    )
    must(7, status == 200, (status, answer))
    raw = json.dumps(answer).encode()
    must(7, answers.setdefault(said.webhook_id, raw) == raw, (answers, raw))


async def _follow(pair: Pair, file_id: str, where: int, cursor: str = "0") -> Told:
    """Follow a stream to its end, as an EventSource does."""
    told = Told()
    while True:
        try:
            ended = await _stream_once(pair, where, file_id, cursor, told)
        except aiohttp.ClientError:
            ended = False
            await asyncio.sleep(0.01)
        if ended:
            return told
        cursor = str(told.events[-1][0]) if told.events else cursor


async def _stream_once(
    pair: Pair, where: int, file_id: str, cursor: str, told: Told
) -> bool:
    """Read one connection to its end; returns whether it was the last."""
    url = f"{pair.gateways[where].url}/v1/files/{file_id}/events"
    headers = {"Accept": "text/event-stream", "Last-Event-ID": cursor}
    told.reset = False
    async with pair.http.get(url, headers=headers) as answer:
        if answer.status == 204:
            return True
        must(10, answer.status == 200, answer.status)
        async for frame in _frames(answer):
            must(20, (frame.event == "message") == bool(frame.id), frame)
            if frame.event == "message":
                told.take(int(frame.id), frame.data.encode())
            elif frame.event == "reset":
                told.reset = True
            elif frame.event == "bye" and frame.json()["reason"] == "final":
                return True
    return False


async def _poll(pair: Pair, file_id: str, where: int, cursor: str = "0") -> Told:
    """Long-poll to the end."""
    told = Told()
    while True:
        try:
            final, cursor = await _poll_once(pair, where, file_id, cursor, told)
        except aiohttp.ClientError:
            await asyncio.sleep(0.01)
        else:
            if final:
                return told


async def _poll_once(
    pair: Pair, where: int, file_id: str, cursor: str, told: Told
) -> tuple[bool, str]:
    url = f"{pair.gateways[where].url}/v1/files/{file_id}/events"
    params = {"after": cursor, "wait": "10"}
    async with pair.http.get(url, params=params) as answer:
        if answer.status == 503:
            return False, cursor
        must(10, answer.status == 200, answer.status)
        body = await answer.json()
        text = await answer.text()
    told.reset = "reset" in body
    for state in body["events"]:
        # As it was sent, byte for byte.
        raw = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
        must(21, raw in text, raw)
        told.take(state["seq"], raw.encode())
    return body["final"], str(body["after"])


async def _truth(pair: Pair, file_id: str) -> dict[int, bytes]:
    sql = "select seq, state from events where file_id = $1 order by seq"
    rows = await pair.gateways[0].fetch(sql, file_id)
    return {seq: state.encode() for seq, state in rows}


def _judge_truth(truth: dict[int, bytes], pruned: set[int]) -> None:
    head = max(truth)
    must(3, sorted(truth.keys() | pruned) == list(range(1, head + 1)), truth)
    states = [json.loads(state) for state in truth.values()]
    ends = [one["attempt"] for one in states if one["status"] in TERMINAL]
    must(6, len(ends) == len(set(ends)), states)
    must(5, states[-1]["status"] in TERMINAL, states)
    heights = [height(msgspec.convert(one, FileState)) for one in states]
    must(4, heights == sorted(heights), heights)


async def _judge_end(pair, file_id, said, answers, chance) -> None:
    """Compare the row with the same reports in another order, on no database."""
    ((first, state, jobs),) = await pair.gateways[0].fetch(
        "select e.state, f.state, f.jobs from files f "
        "join events e on e.file_id = f.id and e.seq = 1 where f.id = $1",
        file_id,
    )
    heard = [one for one in said if one.webhook_id in answers] * 2
    chance.shuffle(heard)
    folded: FileRecord = file_record(first.encode(), b"{}", None)
    now = folded.state.created_at
    for one in heard:
        folded = lifecycle.apply(folded, _decoded(one), now) or folded
    row = file_record(state.encode(), jobs.encode(), None)
    must(8, _essence(folded.state) == _essence(row.state), (folded, row))


def _decoded(said):
    if said.kind == "manifest":
        return manifest.decode(said.body, said.file_id, OUTPUTS)
    return report.decode(said.body)


def _essence(state: FileState) -> tuple[object, ...]:
    return state.status, state.attempt, state.percent, state.error, state.playback


def _judge_told(told: Told, truth: dict[int, bytes], pruned: set[int]) -> None:
    """Each event once, in order, to the end; a hole is a reset, and never else."""
    at = 0
    for seq, data, reset in told.events:
        if reset:
            must(12, pruned & set(range(at + 1, seq)), (at, seq, pruned))
        else:
            must(9, seq == at + 1, (at, seq, told.seqs))
        must(21, seq in pruned or truth[seq] == data, (seq, data))
        at = seq
    # Nothing else rings for it: no look at the table, and no commit after the last.
    must(1, told.events, truth)
    # A new attempt may have followed; a client that was told of an end has gone.
    must(5, json.loads(truth[at])["status"] in TERMINAL, (at, max(truth)))


async def _judge_every_cursor(
    pair: Pair, file_id: str, truth: dict[int, bytes], pruned: set[int]
) -> None:
    head = max(truth)
    async with asyncio.TaskGroup() as tasks:
        for number, cursor in enumerate([*range(head + 2), *HOSTILE]):
            asked = cursor if cursor in range(head + 1) else None
            whole = asked is not None and not any(one > asked for one in pruned)
            rest = [(head, True)]
            if whole:
                rest = [(seq, False) for seq in range(asked + 1, head + 1)]
            tasks.create_task(_agree(pair, number % 2, file_id, str(cursor), rest))
            tasks.create_task(
                _get(pair, 1 - number % 2, file_id, cursor, truth[head], head)
            )


async def _agree(
    pair: Pair, where: int, file_id: str, cursor: str, rest: list[tuple[int, bool]]
) -> None:
    streamed = await _follow(pair, file_id, where, cursor)
    polled = await _poll(pair, file_id, 1 - where, cursor)
    must(13, streamed.events == polled.events, (cursor, streamed, polled))
    is_reset = any(reset for _, reset in rest)
    must(12 if is_reset else 9, streamed.seqs == rest, (cursor, streamed.seqs, rest))


async def _get(
    pair: Pair, where: int, file_id: str, cursor: object, state: bytes, head: int
) -> None:
    url = f"{pair.gateways[where].url}/v1/files/{file_id}"
    headers = {"If-None-Match": f'"{cursor}"'}
    async with pair.http.get(url, headers=headers) as answer:
        must(14, answer.headers["ETag"] == f'"{head}"', answer.headers)
        must(14, answer.status == (304 if cursor == head else 200), answer.status)
        if answer.status == 200:
            read = await answer.read()
            must(13, read == state, cursor)
            must(18, read == state, "one of the two has been restarted, or may be")
