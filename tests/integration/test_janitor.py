"""The janitor forgets what has expired, and nothing else."""

import asyncio
from datetime import timedelta

import pytest

from gateway.store.expired import Expired
from gateway.store.pool import Pool
from workers.janitor import Janitor

REMEMBER = (
    "insert into ingest_ids (webhook_id, digest, outcome, seq, expires_at)"
    " select 'w-' || n, '', 'applied', 1, now() + $1 * interval '1 second'"
    " from generate_series($2::int, $3) as g (n) returning webhook_id"
)
LIFE = timedelta(days=7)


@pytest.fixture
async def gateway(database_url, make_gateway):
    """On a database of its own, so that nothing of others is swept."""
    async with make_gateway(database_url) as one:
        yield one


@pytest.fixture
async def expired(gateway):
    async with Pool(gateway.config.database_url, max_connections=4) as pool:
        yield Expired(pool)


def janitor(expired):
    return Janitor(expired, progress_life=LIFE, expired_file_life=LIFE)


async def age(gateway, file_id, days):
    """Make a file and its events older."""
    await gateway.fetch(
        "update files set created_at = created_at - $2 * interval '1 day', state ="
        " jsonb_set(state::jsonb, '{updated_at}',"
        " to_jsonb((state->>'updated_at')::timestamptz - $2 * interval '1 day'))"
        " where id = $1",
        file_id,
        days,
    )
    await gateway.fetch(
        "update events set recorded_at = recorded_at - $2 * interval '1 day'"
        " where file_id = $1",
        file_id,
        days,
    )


async def seqs(gateway, file_id):
    """What is still there of a file."""
    sql = "select seq from events where file_id = $1 order by seq"
    return [seq for (seq,) in await gateway.fetch(sql, file_id)]


async def progressing(gateway, count):
    """A file with so many events of progress: seqs 3 and up."""
    file_id = await gateway.new_file()
    await gateway.report(file_id, "converting", job_id="j-1")
    for percent in range(1, count + 1):
        # Each is stored: the last one was long ago.
        await gateway.fetch("update files set progressed_at = null")
        await gateway.report(file_id, "progress", job_id="j-1", percent=percent)
    return file_id


async def test_only_what_has_expired_is_forgotten(gateway, expired):
    await gateway.fetch(REMEMBER, -1, 1, 1500)
    await gateway.fetch(REMEMBER, 3600, 1501, 1510)

    swept = await asyncio.gather(*(janitor(expired).sweep() for _ in range(2)))

    assert 1500 == sum(swept)
    assert [(10,)] == await gateway.fetch("select count(*) from ingest_ids")


async def test_old_progress_is_forgotten_and_the_newest_event_is_not(gateway, expired):
    old, young = await progressing(gateway, 3), await progressing(gateway, 3)
    await age(gateway, old, 8)
    await age(gateway, young, 6)

    assert 2 == await janitor(expired).sweep()

    assert [1, 2, 5] == await seqs(gateway, old)
    assert [1, 2, 3, 4, 5] == await seqs(gateway, young)


async def test_a_cursor_before_what_was_forgotten_is_reset(gateway, expired):
    file_id = await progressing(gateway, 3)
    await gateway.complete(file_id)
    await age(gateway, file_id, 8)
    await janitor(expired).sweep()

    frames = await gateway.stream(
        f"/v1/files/{file_id}/events", headers={"Last-Event-ID": "2"}
    )

    assert ["reset", "message", "bye"] == [frame.event for frame in frames]
    assert {"reason": "pruned_cursor"} == frames[0].json()
    assert ("6", "playable") == (frames[1].id, frames[1].json()["status"])


async def test_only_old_files_that_never_came_are_forgotten(gateway, expired):
    never_came, playable, waiting, young = [await gateway.new_file() for _ in range(4)]
    await gateway.complete(playable)
    for file_id in (never_came, young):
        await gateway.fetch(
            "update files set status = 'expired', deadline_at = null where id = $1",
            file_id,
        )
    for file_id in (never_came, playable, waiting):
        await age(gateway, file_id, 8)

    assert 1 == await janitor(expired).sweep()

    left = await gateway.fetch("select id from files order by id")
    assert sorted([playable, waiting, young]) == [file_id for (file_id,) in left]
    assert [] == await seqs(gateway, never_came)


async def test_what_has_just_expired_is_kept_however_long_it_was_waited_for(
    gateway, expired
):
    file_id = await gateway.new_file()
    await age(gateway, file_id, 8)
    await gateway.fetch(
        "update files set status = 'expired', state = jsonb_set(state::jsonb,"
        " '{updated_at}', to_jsonb(now())) where id = $1",
        file_id,
    )

    assert 0 == await janitor(expired).sweep()

    assert [1] == await seqs(gateway, file_id)


async def test_a_forgotten_file_is_not_there_and_costs_a_stream_of_many(
    gateway, expired
):
    """Which is why it is forgotten so late."""
    forgotten, playable = await gateway.new_file(), await gateway.new_file()
    await gateway.complete(playable)
    await gateway.fetch(
        "update files set status = 'expired', deadline_at = null where id = $1",
        forgotten,
    )
    await age(gateway, forgotten, 8)
    board = f"{gateway.url}/v1/events?file={playable}&file={forgotten}"
    stream = {"Accept": "text/event-stream"}
    async with gateway.http.get(board, headers=stream) as answer:
        assert 200 == answer.status

    await janitor(expired).sweep()

    async with gateway.http.get(board, headers=stream) as answer:
        assert 404 == answer.status


async def test_a_sweep_is_bounded(gateway, expired):
    file_id = await progressing(gateway, 4)
    await age(gateway, file_id, 8)

    assert 2 == await expired.delete_progress(2, LIFE)
    assert [1, 2, 5, 6] == await seqs(gateway, file_id)
