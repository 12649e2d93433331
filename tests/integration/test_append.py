"""Several writers of one table: whoever is overtaken reads again."""

import asyncio
import json
import random
import secrets
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from gateway.errors import RejectedError
from gateway.model import LEAP, FileId, Outcome, Report, ReportType, Seq
from gateway.store import append as append_module
from gateway.store.append import Answer, Append, Incoming
from gateway.store.history import History
from gateway.store.pool import Pool


@pytest.fixture
async def own_gateway(database_url, make_gateway):
    """A gateway on a database of its own, whose epoch can be changed."""
    async with make_gateway(database_url) as one:
        yield one


@pytest.fixture
async def pool(gateway):
    async with Pool(gateway.config.database_url, max_connections=4) as one:
        yield one


def incoming(file_id, kind, webhook_id=None, **fields):
    said = Report(type=ReportType(kind), occurred_at=datetime.now(UTC), **fields)
    return Incoming(FileId(file_id), said, webhook_id=webhook_id, body=kind.encode())


class Overtaken(Append):
    """Another writer is faster, so often."""

    def __init__(self, pool, *others):
        super().__init__(pool, {})
        self.others = list(others)
        self.writes = 0

    async def _write(self, connection, work):
        self.writes += 1
        if self.others:
            await Append(self._pool, {})([self.others.pop(0)])
        await super()._write(connection, work)


async def story(gateway, file_id):
    return await gateway.fetch(
        "select seq, type from events where file_id = $1 order by seq", file_id
    )


async def test_whoever_is_overtaken_acts_on_what_is_there_now(gateway, pool):
    file_id, other = await gateway.new_file(), await gateway.new_file()
    faster = incoming(file_id, "converting", job_id="j-1")
    append = Overtaken(pool, faster)

    answers = await append(
        [
            incoming(other, "uploaded"),
            incoming(file_id, "uploaded"),
            incoming(file_id, "completed", job_id="j-1"),
        ]
    )

    assert [
        Answer(Outcome.APPLIED, Seq(2)),
        Answer(Outcome.STALE, Seq(2)),
        Answer(Outcome.APPLIED, Seq(3)),
    ] == answers
    assert 2 == append.writes
    assert [(1, "created"), (2, "converting"), (3, "completed")] == await story(
        gateway, file_id
    )
    assert [(1, "created"), (2, "uploaded")] == await story(gateway, other)


async def test_a_delivery_that_two_take_at_once_is_answered_the_same(gateway, pool):
    file_id = await gateway.new_file()
    same = incoming(file_id, "uploaded", secrets.token_hex(8))
    append = Overtaken(pool, same)

    assert [Answer(Outcome.APPLIED, Seq(2))] == await append([same])

    assert 2 == append.writes
    assert [(1, "created"), (2, "uploaded")] == await story(gateway, file_id)


async def test_an_overtaken_event_is_refused_though_the_faster_one_is_pruned(
    gateway, pool
):
    """A process that was stopped for long, between its reading and its writing."""
    file_id = await gateway.new_file()

    class Stopped(Overtaken):
        async def _write(self, connection, work):
            if not self.writes:
                await gateway.report(file_id, "progress", job_id="j-1", percent=1)
                await gateway.complete(file_id)
                await gateway.fetch(
                    "delete from events where file_id = $1 and seq = 2", file_id
                )
            await super()._write(connection, work)

    append = Stopped(pool)

    answers = await append([incoming(file_id, "uploaded")])

    assert [Answer(Outcome.STALE, Seq(3))] == answers
    assert 2 == append.writes
    assert 3 == (await gateway.state(file_id))["seq"]


async def test_who_is_overtaken_for_ever_is_refused_and_stores_nothing(
    gateway, pool, monkeypatch
):
    monkeypatch.setattr(append_module, "_MAX_ATTEMPTS", 2)
    file_id = await gateway.new_file()
    others = [
        incoming(file_id, "uploaded"),
        incoming(file_id, "converting", job_id="j-1"),
    ]

    with pytest.raises(RejectedError) as refused:
        await Overtaken(pool, *others)([incoming(file_id, "completed", job_id="j-1")])

    assert "DETAIL" in str(refused.value.__cause__)
    assert "DETAIL" not in str(refused.value)
    assert [(1, "created"), (2, "uploaded"), (3, "converting")] == await story(
        gateway, file_id
    )


async def test_whoever_would_deadlock_tries_again(gateway, pool):
    file_id = await gateway.new_file()

    class Victim(Overtaken):
        async def _write(self, connection, work):
            if not self.writes:
                self.writes += 1
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            await super()._write(connection, work)

    append = Victim(pool)

    assert [Answer(Outcome.APPLIED, Seq(2))] == await append(
        [incoming(file_id, "uploaded")]
    )
    assert 2 == append.writes


class Following:
    """What followers were told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def committing(self, file_ids):
        self.told.append(("committing", list(file_ids)))

    def committed(self, readings):
        self.told.append(("committed", dict(readings)))

    def interrupted(self, file_ids):
        self.told.append(("interrupted", list(file_ids)))


async def test_followers_get_what_they_would_read(gateway, pool):
    file_id = await gateway.new_file(owner="me")
    following = Following()

    await Append(pool, {}, following)(
        [
            incoming(file_id, "uploaded"),
            incoming(file_id, "failed", job_id="j-1"),
        ]
    )

    (read,) = (await History(pool).read([(file_id, 1)])).values()
    assert [
        ("committing", [file_id]),
        ("committed", {file_id: read}),
    ] == following.told
    assert (3, "me", True) == (read.head, read.owner, read.final)


async def test_followers_hear_of_a_commit_that_failed(gateway, pool):
    file_id = await gateway.new_file()
    following = Following()

    class Interrupted(Append):
        async def _commit(self, *of_what):
            if len(following.told) == 1:
                raise asyncpg.DeadlockDetectedError("deadlock detected")
            await super()._commit(*of_what)

    await Interrupted(pool, {}, following)([incoming(file_id, "uploaded")])

    assert ["committing", "interrupted", "committing", "committed"] == [
        what for what, _ in following.told
    ]


ELSEWHERE = """
create or replace function reelready_epoch() returns text stable language sql
as $$ select 'elsewhere' $$
"""
UNTOLD = ELSEWHERE.replace("'elsewhere'", "null::text")


async def test_in_another_epoch_the_next_seq_is_out_of_reach(own_gateway):
    """And those after it follow it: there is one leap, whatever comes before it."""
    gateway = own_gateway
    file_id, other = await gateway.new_file(), await gateway.new_file()
    await gateway.report(file_id, "converting", job_id="j-1")
    await gateway.fetch(ELSEWHERE)

    stale, first, second = (
        await gateway.report(file_id, "uploaded"),
        await gateway.report(file_id, "progress", job_id="j-1", percent=1),
        await gateway.complete(file_id),
    )

    assert {"outcome": "stale", "seq": 2} == stale
    assert first["seq"] > 2 + LEAP
    assert first["seq"] + 1 == second["seq"]
    assert [(1,), (2,), (first["seq"],), (second["seq"],)] == await gateway.fetch(
        "select seq from events where file_id = $1 order by seq", file_id
    )
    # By chance: two histories that come from one must not meet either.
    assert first["seq"] - 2 != (await gateway.report(other, "uploaded"))["seq"] - 1
    assert second["seq"] == (await gateway.state(file_id))["seq"]


async def test_whoever_waits_right_before_a_leap_is_reset(own_gateway):
    gateway = own_gateway
    file_id = await gateway.new_file()
    async with gateway.open_stream(f"/v1/files/{file_id}/events?after=1") as frames:
        await gateway.fetch(ELSEWHERE)
        leapt = await gateway.report(file_id, "uploaded")

        assert {"reason": "pruned_cursor"} == (await anext(frames)).json()
        assert str(leapt["seq"]) == (await anext(frames)).id
        await gateway.complete(file_id)
        assert str(leapt["seq"] + 1) == (await anext(frames)).id


async def test_a_file_registered_in_this_epoch_is_counted_from_one(own_gateway):
    await own_gateway.fetch(ELSEWHERE)
    file_id = await own_gateway.new_file()

    assert 2 == (await own_gateway.report(file_id, "uploaded"))["seq"]


async def test_a_server_that_does_not_tell_its_epoch_is_named_once(own_gateway, caplog):
    gateway = own_gateway
    file_id = await gateway.new_file()
    await gateway.fetch(UNTOLD)

    assert 2 == (await gateway.report(file_id, "uploaded"))["seq"]
    assert 3 == (await gateway.complete(file_id))["seq"]

    assert 1 == sum("no epoch" in one.getMessage() for one in caplog.records)


async def test_nothing_is_written_on_a_server_that_was_not_read_from(gateway, pool):
    """A pooler may lead the reading to one and the writing to the next."""
    file_id = await gateway.new_file()

    class Led(Overtaken):
        async def _write(self, connection, work):
            if not self.writes:
                work.server -= timedelta(seconds=1)
            await super()._write(connection, work)

    append = Led(pool)

    assert [Answer(Outcome.APPLIED, Seq(2))] == await append(
        [incoming(file_id, "uploaded")]
    )
    assert 2 == append.writes


async def test_what_users_and_senders_say_is_stored_as_it_was_said(gateway, pool):
    """JSON in JSON, escapes in escapes: the table gets the bytes we answer with."""
    said = 'a"\\b\x01\x1f\U0001f600\u2028</script>\\u0000'
    file_id = await gateway.new_file(metadata={"said": said})
    job_id = 'j\\"1'

    await Append(pool, {})(
        [
            incoming(file_id, "uploaded", webhook_id='w\\"'),
            incoming(file_id, "failed", job_id=job_id, sender='s\\"'),
        ]
    )

    (read,) = (await History(pool).read([(file_id, 0)])).values()
    assert [said] * 3 == [
        json.loads(event.data)["metadata"]["said"] for event in read.events
    ]
    ((jobs, state),) = await gateway.fetch(
        "select jobs::text, state::text from files where id = $1", file_id
    )
    assert [job_id] == list(json.loads(jobs))
    assert state == read.events[-1].data.decode()
    assert [('s\\"',)] == await gateway.fetch(
        "select sender from events where file_id = $1 and seq = 3", file_id
    )


async def test_gateways_that_write_the_same_files_at_once_all_succeed(gateway):
    """Batches overlap, in different orders: nobody deadlocks, nothing is lost."""
    file_ids = [await gateway.new_file() for _ in range(12)]
    kinds = ("uploaded", "converting", "completed")
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(
                Pool(gateway.config.database_url, max_connections=1)
            )
            for _ in range(4)
        ]
        appends = [Append(pool, {}) for pool in pools]

        async def write(append, seed):
            for kind in kinds:
                mixed = random.Random(seed).sample(file_ids, len(file_ids))
                job = {} if kind == "uploaded" else {"job_id": "j-1"}
                while True:
                    try:
                        await append([incoming(one, kind, **job) for one in mixed])
                    except RejectedError:
                        continue
                    break

        await asyncio.gather(*(write(one, at) for at, one in enumerate(appends)))

    logs = await gateway.fetch(
        "select array_agg(e.seq order by e.seq), max(f.seq), max(f.status)"
        " from events e join files f on f.id = e.file_id"
        " where f.id = any($1) group by f.id",
        file_ids,
    )
    assert {"playable"} == {status for _, _, status in logs}
    for seqs, newest, _ in logs:
        assert list(range(1, newest + 1)) == seqs
