"""The janitor forgets what has expired, and nothing else."""

import asyncio

from gateway.store.expired import Expired
from gateway.store.pool import Pool
from workers.janitor import Janitor

REMEMBER = (
    "insert into ingest_ids (webhook_id, digest, outcome, seq, expires_at)"
    " select 'w-' || n, '', 'applied', 1, now() + $1 * interval '1 second'"
    " from generate_series($2::int, $3) as g (n) returning webhook_id"
)


async def test_only_what_has_expired_is_forgotten(database_url, make_gateway):
    async with (
        make_gateway(database_url) as gateway,
        Pool(database_url, max_connections=4) as pool,
    ):
        await gateway.fetch(REMEMBER, -1, 1, 1500)
        await gateway.fetch(REMEMBER, 3600, 1501, 1510)
        janitors = [Janitor(Expired(pool)) for _ in range(2)]

        swept = await asyncio.gather(*(one.sweep() for one in janitors))
        left = await gateway.fetch("select count(*) from ingest_ids")

    assert 1500 == sum(swept)
    assert [(10,)] == left
