"""
A row that cannot be read - of a later release, or spoilt - costs its own file, and no
other: nobody ends, and everybody else is answered, found and ended.
"""

import asyncio
from datetime import timedelta

import pytest

from gateway.store.append import Append
from gateway.store.pool import Pool
from gateway.store.silent import Silent
from tests.integration.test_reconciler import Upstream
from workers.reconciler import Reconciler

SPOILT = {
    "a status of a later release": ("awaiting_upload", "quarantined"),
    "half a document": ('"status":', '"stat":'),
}
NO_TIME = ('"updated_at":"20', '"updated_at":"never 20')
NUL = ('"metadata":{}', '"metadata":{"a":"\\u0000","updated_at":"never"}')


async def spoil(gateway, file_id, old, new):
    await gateway.fetch(
        "update files set state = replace(state::text, $2, $3)::json where id = $1",
        file_id,
        old,
        new,
    )


@pytest.mark.parametrize("how", SPOILT.values(), ids=SPOILT)
async def test_a_report_on_it_is_refused_for_now_and_others_are_taken(gateway, how):
    bad, *good = [await gateway.new_file() for _ in range(4)]
    await spoil(gateway, bad, *how)
    body = {"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}

    answers = await asyncio.gather(
        *(gateway.post(one, "reports", body) for one in (good[0], bad, *good[1:]))
    )

    assert [200, 503, 200, 200] == [status for status, _ in answers]
    assert "interrupted" not in str(answers)
    assert 200 == (await gateway.post(good[0], "reports", body))[0]


@pytest.mark.parametrize(
    "how", [*SPOILT.values(), NUL, NO_TIME], ids=[*SPOILT, "U+0000", "no time"]
)
async def test_a_worker_ends_the_others(gateway, database_url, how):
    config = gateway.config
    await gateway.fetch("delete from files")
    bad, *good = [await gateway.new_file() for _ in range(4)]
    await spoil(gateway, bad, *how)
    await gateway.fetch("update files set deadline_at = now() - interval '1 hour'")
    async with Pool(config.database_url, max_connections=2) as pool:
        silent = Silent(
            pool,
            dict.fromkeys(config.deadlines, timedelta(0)),
            again=timedelta(minutes=2),
            longest=timedelta(minutes=8),
        )
        append = Append(pool, config.silences)
        stop = asyncio.Event()
        working = asyncio.create_task(Reconciler(silent, Upstream(), append).run(stop))
        async with asyncio.timeout(20):
            while {("expired",)} != set(
                await gateway.fetch("select status from files where id = any($1)", good)
            ):
                assert not working.done(), working.exception()
                await asyncio.sleep(0.05)
        stop.set()
        await working


async def test_an_answer_of_a_later_release_is_not_repeated_and_ends_nobody(gateway):
    one, other = await gateway.new_file(), await gateway.new_file()
    body = {"type": "uploaded", "occurred_at": "2026-01-02T03:04:05Z"}
    assert 200 == (await gateway.post(one, "reports", body, webhook_id="w-1"))[0]
    await gateway.fetch("update ingest_ids set outcome = 'deferred'")

    again, _ = await gateway.post(one, "reports", body, webhook_id="w-1")
    after, _ = await gateway.post(other, "reports", body, webhook_id="w-2")

    assert (503, 200) == (again, after)


async def test_a_seq_without_its_event_ends_nobody(gateway):
    one, other = await gateway.new_file(), await gateway.new_file()
    await gateway.fetch("update files set seq = 3 where id = $1", one)

    for cursor in ("0", "1"):
        headers = {"Last-Event-ID": cursor}
        path = f"/v1/files/{one}/events"
        await gateway.stream(path, most=1, headers=headers)
        async with gateway.http.get(
            f"{gateway.url}{path}?after={cursor}&wait=0"
        ) as said:
            assert 200 == said.status
    first = await gateway.stream(f"/v1/files/{other}/events", most=1)

    assert "1" == first[0].id
