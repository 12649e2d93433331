"""Every file ends: silence is looked into, and past a deadline it is an answer."""

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.model import Report, ReportType, Seq
from gateway.store.append import Append
from gateway.store.pool import Pool
from gateway.store.silent import UNANSWERED_LIFE, Silent
from workers.reconciler import MAX_JOB_AGE, PATIENCE, Reconciler
from workers.upstream import SENDER, Finding

AGAIN = timedelta(minutes=1)
FIND_AGAIN = timedelta(seconds=0.3)
SECOND = timedelta(seconds=1)
LONGEST = timedelta(minutes=4)
AWAY = Finding(unknown="AccessDeniedException")
JOB = {"job_id": "j-1"}
SAID = {
    ReportType.UPLOADED: {},
    ReportType.CONVERTING: JOB,
    ReportType.PROGRESS: JOB | {"phase": "transcoding", "percent": 42},
    ReportType.FAILED: JOB
    | {"error": {"code": "no_video", "message": "There is none."}},
    ReportType.CANCELED: JOB,
    ReportType.COMPLETED: JOB,
}
"""What a Lambda reports, each kind once."""

STAGES = {
    "awaiting_upload": ([], "expired", "upload_never_came"),
    "uploaded": (["uploaded"], "failed", "conversion_never_started"),
    "converting": (["uploaded", "converting"], "failed", "conversion_never_reported"),
}
"""What was heard in each, and how its deadline ends it."""


class Upstream:
    """AWS, from memory: what is known by file id."""

    def __init__(self, **known):
        self.known = known
        self.asked = []
        self.converted = []
        self.meanwhile = None

    async def ask(self, files):
        self.asked += [file.state.id for file in files]
        if files and self.meanwhile is not None:
            await self.meanwhile
        return [self.known.get(file.state.id, Finding()) for file in files]

    async def convert(self, states):
        self.converted += [state.id for state in states]


@pytest.fixture
async def own_gateway(database_url, make_gateway):
    """A gateway on a database of its own; every stage may be silent for 1 s."""
    async with make_gateway(
        database_url,
        upload_deadline_seconds=1,
        start_deadline_seconds=1,
        conversion_deadline_seconds=1,
    ) as one:
        yield one


@pytest.fixture
async def pool(own_gateway):
    async with Pool(own_gateway.config.database_url, max_connections=8) as one:
        yield one


def reconciler(gateway, pool, upstream=None):
    config = gateway.config
    silent = Silent(pool, config.deadlines, again=AGAIN, longest=LONGEST)
    return Reconciler(silent, upstream or Upstream(), Append(pool, config.silences))


async def swept(count, *workers):
    """Sweep until `count` files were found; the test's timeout is the bound."""
    found = 0
    while found < count:
        found += sum(await asyncio.gather(*(one.sweep() for one in workers)))
        await asyncio.sleep(0.05)


async def found_by(silent):
    """Wait for one file to be found; the test's timeout is the bound."""
    while True:
        if found := await silent.claim(10):
            (one,) = found
            return one
        await asyncio.sleep(0.05)


async def test_silence_ends_each_stage_in_its_own_way(own_gateway, pool):
    gateway = own_gateway
    never_came = await gateway.new_file()
    never_started, never_reported = await gateway.new_file(), await gateway.new_file()
    await gateway.report(never_started, "uploaded")
    await gateway.report(never_reported, "converting", job_id="j-1")
    watching = asyncio.create_task(gateway.stream(f"/v1/files/{never_came}/events"))

    await swept(3, reconciler(gateway, pool))

    states = [
        await gateway.state(file_id)
        for file_id in (never_came, never_started, never_reported)
    ]
    assert [
        ("expired", "upload_never_came"),
        ("failed", "conversion_never_started"),
        ("failed", "conversion_never_reported"),
    ] == [(state["status"], state["error"]["code"]) for state in states]
    assert "expired" == (await watching)[-2].json()["status"]


async def test_what_aws_knows_is_told_to_whoever_waits(own_gateway, pool):
    gateway = own_gateway
    file_id = await gateway.new_file()
    watching = asyncio.create_task(gateway.stream(f"/v1/files/{file_id}/events"))
    now = datetime.now(UTC)
    lost = Report(type=ReportType.COMPLETED, occurred_at=now, sender=SENDER)

    known = Upstream(**{file_id: Finding(reports=(lost,))})
    await swept(1, reconciler(gateway, pool, known))

    assert "playable" == (await watching)[-2].json()["status"]
    assert [("created", "gateway"), ("completed", SENDER)] == await gateway.fetch(
        "select type, sender from events where file_id = $1 order by seq", file_id
    )
    late = await gateway.complete(file_id)
    assert late["outcome"] in {"stale", "duplicate"}


async def test_what_cannot_be_written_ends_a_file_when_patience_is_over(
    own_gateway, pool
):
    gateway = own_gateway
    file_id = await gateway.new_file()
    await gateway.report(file_id, "converting", job_id="j-1")
    await gateway.fetch(
        "alter table events add constraint no_end check (type <> 'completed')"
    )
    await gateway.fetch(
        "update files set deadline_at = now() - interval '1 s', state ="
        " jsonb_set(state::jsonb, '{updated_at}', to_jsonb(now() - interval '3 h'))"
    )
    lost = Report(
        type=ReportType.COMPLETED, occurred_at=datetime.now(UTC), sender=SENDER
    )
    worker = reconciler(gateway, pool, Upstream(**{file_id: Finding(reports=(lost,))}))

    await swept(1, worker)
    at_first = await gateway.state(file_id)
    await of_long_ago(pool, deadline_at=SECOND)
    await of_long_ago(pool, unanswered_since=PATIENCE + SECOND)
    await swept(1, worker)
    at_last = await gateway.state(file_id)

    assert "converting" == at_first["status"]
    assert "conversion_never_reported" == at_last["error"]["code"]


async def say(gateway, file_id, kind):
    """Report as a Lambda does; returns the answer."""
    if kind is ReportType.COMPLETED:
        return await gateway.complete(file_id)
    return await gateway.report(file_id, kind, **SAID[kind])


@pytest.mark.parametrize("kind", SAID)
async def test_the_report_that_was_only_late_changes_nothing(own_gateway, pool, kind):
    gateway = own_gateway
    file_id = await gateway.new_file()
    said = {"type": kind, "occurred_at": datetime.now(UTC), "sender": SENDER}
    repair = msgspec.convert(SAID[kind] | said, Report)

    known = Upstream(**{file_id: Finding(reports=(repair,))})
    await swept(1, reconciler(gateway, pool, known))
    late = await say(gateway, file_id, kind)

    assert 2 == late["seq"]
    assert late["outcome"] in {"duplicate", "stale"}
    assert [("gateway",), (SENDER,)] == await gateway.fetch(
        "select sender from events where file_id = $1 order by seq", file_id
    )


@pytest.mark.parametrize("stage", STAGES)
async def test_no_late_report_changes_what_a_deadline_ended(own_gateway, pool, stage):
    gateway = own_gateway
    heard, end, code = STAGES[stage]
    file_id = await gateway.new_file()
    for kind in heard:
        await say(gateway, file_id, ReportType(kind))

    await swept(1, reconciler(gateway, pool))
    ended = await gateway.state(file_id)
    late = [await say(gateway, file_id, kind) for kind in SAID]

    assert (end, code) == (ended["status"], ended["error"]["code"])
    assert {ended["seq"]} == {answer["seq"] for answer in late}
    assert {answer["outcome"] for answer in late} <= {"duplicate", "stale"}
    assert ended == await gateway.state(file_id)


async def test_of_many_workers_each_file_is_found_by_one(own_gateway, pool):
    gateway = own_gateway
    file_ids = {await gateway.new_file() for _ in range(30)}
    workers = [Upstream() for _ in range(4)]

    await swept(30, *(reconciler(gateway, pool, one) for one in workers))

    assert sorted(file_ids) == sorted(id_ for one in workers for id_ in one.asked)
    assert [(30,)] == await gateway.fetch(
        "select count(*) from events where type = 'expired'"
    )


async def test_late_reports_of_an_ended_file_change_nothing(own_gateway, pool):
    gateway = own_gateway
    file_id = await gateway.new_file()
    await gateway.report(file_id, "converting", job_id="j-1")

    await swept(1, reconciler(gateway, pool))
    late = await gateway.complete(file_id)

    assert {"outcome": "stale", "seq": 3} == late
    assert [("created",), ("converting",), ("failed",)] == await gateway.fetch(
        "select type from events where file_id = $1 order by seq", file_id
    )


async def test_a_report_that_comes_first_wins(own_gateway, pool):
    """
    The file was found silent, and moved while AWS was asked.
    """
    gateway = own_gateway
    file_id = await gateway.new_file()
    upstream = Upstream()
    upstream.meanwhile = gateway.report(file_id, "uploaded")

    await swept(1, reconciler(gateway, pool, upstream))

    assert "uploaded" == (await gateway.state(file_id))["status"]


async def test_a_file_that_is_not_over_is_looked_at_again_after_twice_as_long(
    database_url, make_gateway
):
    async with (
        make_gateway(database_url, silence_seconds=1) as gateway,
        Pool(database_url, max_connections=2) as pool,
    ):
        file_id = await gateway.new_file()
        upstream = Upstream()

        await swept(1, reconciler(gateway, pool, upstream))
        ((waited, next_in),) = await gateway.fetch(
            "select now() - created_at, deadline_at - now() from files where id = $1",
            file_id,
        )

        assert [file_id] == upstream.asked
        assert "awaiting_upload" == (await gateway.state(file_id))["status"]
        assert timedelta(seconds=0.9) < next_in < 1.3 * waited


@pytest.mark.parametrize(
    ("quiet", "low", "high"),
    [
        (timedelta(hours=3), LONGEST, 1.2 * LONGEST),
        (timedelta(hours=23, minutes=58), timedelta(0), timedelta(minutes=2)),
    ],
)
async def test_a_long_silence_is_broken_at_least_every_ten_minutes(
    database_url, make_gateway, quiet, low, high
):
    """And once more when its time is over."""
    async with (
        make_gateway(database_url) as gateway,
        Pool(database_url, max_connections=2) as pool,
    ):
        file_id = await gateway.new_file()
        await gateway.fetch(
            "update files set deadline_at = now() - interval '1 s', state ="
            " jsonb_set(state::jsonb, '{updated_at}', to_jsonb(now() - $1::interval))",
            quiet,
        )

        await swept(1, reconciler(gateway, pool))
        ((next_in,),) = await gateway.fetch(
            "select deadline_at - now() from files where id = $1", file_id
        )

    assert low - timedelta(seconds=5) < next_in < high


@pytest.mark.parametrize("deadline_s", [1, 3600])
async def test_a_file_whose_worker_died_is_soon_found_again(
    database_url, make_gateway, deadline_s
):
    """Whether its time is over or not."""
    async with (
        make_gateway(
            database_url, silence_seconds=1, upload_deadline_seconds=deadline_s
        ) as gateway,
        Pool(database_url, max_connections=2) as pool,
    ):
        file_id = await gateway.new_file()
        silent = Silent(
            pool,
            gateway.config.deadlines,
            again=timedelta(seconds=0.5),
            longest=LONGEST,
        )

        first, second = await found_by(silent), await found_by(silent)

    assert file_id == first.record.state.id == second.record.state.id
    assert timedelta(seconds=0.4) < second.late - first.late < timedelta(minutes=1)


async def test_patience_is_one_for_all_workers(own_gateway, pool):
    file_id = await own_gateway.new_file()
    silent = [
        Silent(pool, own_gateway.config.deadlines, again=FIND_AGAIN, longest=LONGEST)
        for _ in range(2)
    ]

    first = await found_by(silent[0])
    await silent[0].note_unanswered([first])
    second = await found_by(silent[1])
    await own_gateway.report(file_id, "uploaded")
    heard_of = await found_by(silent[0])
    await silent[0].note_unanswered([heard_of])
    third = await found_by(silent[1])
    await silent[1].put_off([third])
    await of_long_ago(pool, deadline_at=SECOND)
    answered = await found_by(silent[0])
    await silent[0].note_unanswered([answered])
    await of_long_ago(pool, unanswered_since=UNANSWERED_LIFE)
    forgotten = await found_by(silent[1])

    assert (None, None) == (first.unanswered, heard_of.unanswered)
    assert (None, None) == (answered.unanswered, forgotten.unanswered)
    assert FIND_AGAIN <= second.unanswered < timedelta(minutes=1)
    assert FIND_AGAIN <= third.unanswered < timedelta(minutes=1)


async def of_long_ago(pool, **ages):
    """Set a column of the only file back by an age."""
    ((column, age),) = ages.items()
    async with pool.acquire() as connection:
        await connection.execute(
            f"update files set {column} = now() - $1::interval", age
        )


async def test_who_was_heard_of_meanwhile_is_not_put_off(database_url, make_gateway):
    async with (
        make_gateway(database_url, silence_seconds=1) as gateway,
        Pool(database_url, max_connections=2) as pool,
    ):
        file_id = await gateway.new_file()
        silent = Silent(pool, gateway.config.deadlines, again=AGAIN, longest=LONGEST)
        found = await found_by(silent)
        await gateway.report(file_id, "uploaded")
        look_at = "select deadline_at from files where id = $1"
        before = await gateway.fetch(look_at, file_id)

        await silent.put_off([found])

        assert before == await gateway.fetch(look_at, file_id)


async def test_whoever_is_just_heard_of_is_neither_put_off_nor_waited_for(
    own_gateway, pool
):
    """A report that waits for other files, and has locked this one, is no deadlock."""
    gateway = own_gateway
    file_ids = [await gateway.new_file() for _ in range(2)]
    silent = Silent(pool, gateway.config.deadlines, again=AGAIN, longest=LONGEST)
    found = []
    while len(found) < 2:
        found += await silent.claim(10)
        await asyncio.sleep(0.05)
    free, locked = file_ids
    look_at = "select deadline_at - now() from files where id = $1"

    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select from files where id = $1 for update", locked)
        async with asyncio.timeout(5):
            await silent.put_off(found)

    ((free_in,),) = await gateway.fetch(look_at, free)
    ((locked_in,),) = await gateway.fetch(look_at, locked)
    assert free_in < AGAIN / 2 < locked_in < AGAIN


async def test_a_job_that_lives_past_its_deadline_is_let_be_as_long_as_others(
    own_gateway, pool
):
    """
    Else it would be found again while another worker remembers that it had no
    answer about it.
    """
    gateway = own_gateway
    file_id = await gateway.new_file()
    await gateway.fetch(
        "update files set deadline_at = now() - interval '1 s', state ="
        " jsonb_set(state::jsonb, '{updated_at}', to_jsonb(now() - interval '3 h'))"
    )

    alive = Upstream(**{file_id: Finding(alive=True)})
    await swept(1, reconciler(gateway, pool, alive))
    ((next_in,),) = await gateway.fetch(
        "select deadline_at - now() from files where id = $1", file_id
    )

    assert "awaiting_upload" == (await gateway.state(file_id))["status"]
    assert LONGEST - timedelta(seconds=5) < next_in < 1.2 * LONGEST


@pytest.fixture
async def converting(database_url, make_gateway):
    """Its gateway, a pool, and a file whose job says nothing for its six hours."""
    async with (
        make_gateway(database_url, conversion_deadline_seconds=21600) as gateway,
        Pool(database_url, max_connections=2) as pool,
    ):
        file_id = await gateway.new_file()
        await gateway.report(file_id, "converting", job_id="j-1")
        yield gateway, pool, file_id


async def pass_time(pool, time):
    """As if it were so much later, and at least when a file is looked at next."""
    async with pool.acquire() as connection:
        await connection.execute(
            "update files set deadline_at = deadline_at - passed,"
            " unanswered_since = unanswered_since - passed,"
            " state = jsonb_set(state::jsonb, '{updated_at}', to_jsonb("
            "(state->>'updated_at')::timestamptz - passed))"
            " from (select greatest($1, deadline_at - now() + interval '1 ms') as passed"
            " from files) p",
            time,
        )
        await connection.execute("select pg_sleep(0.002)")


@pytest.mark.parametrize("hours", [5.95, 7], ids=["before", "after"])
async def test_a_worker_that_aws_refuses_ends_no_job_that_another_was_told_of(
    converting, hours
):
    """
    Of 30 finds one is the other's, so that the refused one alone asks for an hour
    on end, 10 times; the first answer comes before or after the deadline.
    """
    gateway, pool, file_id = converting
    known = {file_id: Finding(alive=True)}
    told = reconciler(gateway, pool, Upstream(**known))
    refused = reconciler(gateway, pool, Upstream(**{file_id: AWAY}))

    await pass_time(pool, timedelta(hours=hours))
    found = 0
    for worker in [told, *[refused] * 29] * 10:
        found += await worker.sweep()
        await pass_time(pool, 2 * AGAIN)
    ended = await gateway.complete(file_id)

    assert 300 == found
    assert "applied" == ended["outcome"]


async def test_what_was_once_said_of_a_job_is_not_believed_for_ever(converting):
    gateway, pool, file_id = converting
    told = reconciler(gateway, pool, Upstream(**{file_id: Finding(alive=True)}))
    refused = reconciler(gateway, pool, Upstream(**{file_id: AWAY}))

    await pass_time(pool, timedelta(hours=7))
    await told.sweep()
    # An hour of them is gone: from the deadline they count.
    await pass_time(pool, MAX_JOB_AGE - timedelta(hours=1, seconds=5))
    await refused.sweep()
    at_48_hours = await gateway.state(file_id)
    for _ in range(5):
        await pass_time(pool, 2 * AGAIN)
        await refused.sweep()
    ten_minutes_later = await gateway.state(file_id)

    assert "converting" == at_48_hours["status"]
    assert "conversion_never_reported" == ten_minutes_later["error"]["code"]


async def test_whoever_is_heard_of_is_taken_at_his_word_anew(converting):
    """What was said of the job before is no answer about what comes now."""
    gateway, pool, file_id = converting
    told = reconciler(gateway, pool, Upstream(**{file_id: Finding(alive=True)}))
    refused = reconciler(gateway, pool, Upstream(**{file_id: AWAY}))

    await pass_time(pool, timedelta(hours=7))
    await told.sweep()
    await gateway.report(file_id, "uploaded", attempt=2)
    await gateway.report(file_id, "converting", job_id="j-2", attempt=2)
    await pass_time(pool, timedelta(hours=6))
    for _ in range(5):
        await refused.sweep()
        await pass_time(pool, 2 * AGAIN)

    state = await gateway.state(file_id)
    assert "conversion_never_reported" == state["error"]["code"]


async def test_a_job_that_is_further_on_is_believed_to_be_at_work_as_well(converting):
    """The answer was new, and so a report of the worker's own was written."""
    gateway, pool, file_id = converting
    further = Report(
        type=ReportType.PROGRESS,
        occurred_at=datetime.now(UTC),
        job_id="j-1",
        percent=42,
        sender=SENDER,
    )
    finding = Finding(reports=(further,), alive=True)
    told = reconciler(gateway, pool, Upstream(**{file_id: finding}))
    refused = reconciler(gateway, pool, Upstream(**{file_id: AWAY}))

    await pass_time(pool, timedelta(hours=1))
    await told.sweep()
    further_on = await gateway.state(file_id)
    await pass_time(pool, timedelta(hours=7))
    for _ in range(5):
        await refused.sweep()
        await pass_time(pool, 2 * AGAIN)

    assert 42 == further_on["percent"]
    assert "applied" == (await gateway.complete(file_id))["outcome"]


async def test_what_is_heard_before_it_is_noted_ends_the_belief(converting):
    gateway, pool, file_id = converting
    silent = Silent(pool, gateway.config.deadlines, again=AGAIN, longest=LONGEST)
    head = Seq((await gateway.state(file_id))["seq"])

    await silent.note_at_work({file_id: head}, believed=MAX_JOB_AGE)
    await gateway.report(file_id, "progress", job_id="j-1", percent=42)
    await silent.note_at_work({file_id: head}, believed=MAX_JOB_AGE)
    await pass_time(pool, timedelta(hours=1))

    assert (await found_by(silent)).unanswered is None


async def test_a_worker_that_asked_for_long_takes_back_no_others_answer(converting):
    gateway, pool, file_id = converting
    told = reconciler(gateway, pool, Upstream(**{file_id: Finding(alive=True)}))
    silent = Silent(pool, gateway.config.deadlines, again=AGAIN, longest=LONGEST)

    await pass_time(pool, timedelta(hours=7))
    stopped = await found_by(silent)
    await pass_time(pool, AGAIN)
    await told.sweep()
    await silent.note_unanswered([stopped])
    await pass_time(pool, AGAIN)

    assert (await found_by(silent)).unanswered < timedelta(0)


async def test_files_that_are_heard_of_or_have_ended_are_not_found(gateway):
    ended, heard = await gateway.new_file(), await gateway.new_file()
    await gateway.fetch(
        "update files set deadline_at = now() - interval '1 day' where id in ($1, $2)",
        *(ended, heard),
    )

    await gateway.complete(ended)
    await gateway.report(heard, "uploaded")

    async with Pool(gateway.config.database_url, max_connections=2) as pool:
        silent = Silent(pool, gateway.config.deadlines, again=AGAIN, longest=LONGEST)
        found = await silent.claim(1000)
    assert not {ended, heard} & {one.record.state.id for one in found}
