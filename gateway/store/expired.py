"""
What has outlived its use: answers to webhook ids that nobody repeats any more.

Deleted in bounded batches, and skipping what another worker is deleting, so
that ingest never waits for it.
"""

from gateway.store.pool import Pool

_DELETE_INGEST_IDS = """
delete from ingest_ids where webhook_id in (
    select webhook_id from ingest_ids where expires_at < now()
    order by expires_at limit $1 for update skip locked
)
"""


class Expired:
    """Deletes what has expired."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def delete_ingest_ids(self, limit: int) -> int:
        """
        Forget at most `limit` webhook ids whose life is over; returns how many.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._pool.acquire() as connection:
            done = await connection.execute(_DELETE_INGEST_IDS, limit)
        return int(done.rpartition(" ")[2])
