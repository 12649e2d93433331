"""
What has outlived its use: answers to webhook ids that nobody repeats any more,
progress that nobody can watch any more, and files that never came.

Deleted in bounded batches, and skipping what another worker is deleting, so
that ingest never waits for it.  The newest event of a file stays, whatever it
is: a cursor before a gap is answered with a reset, and so needs one.
"""

from datetime import timedelta

from gateway.store.pool import Pool
from gateway.store.records import HEARD_AT

_DELETE_INGEST_IDS = """
delete from ingest_ids where webhook_id = any (array(
    select webhook_id from ingest_ids where expires_at < now()
    order by expires_at limit $1 for update skip locked
))
"""

# By where they lie: events do not change, and those that are locked do not go.
_DELETE_PROGRESS = """
delete from events where ctid = any (array(
    select e.ctid from events e join files f on f.id = any (array[e.file_id])
    where e.type = 'progress' and e.recorded_at < now() - $2::interval
      and e.seq < f.seq
    order by e.recorded_at limit $1 for update of e skip locked
))
"""

_DELETE_FILES = f"""
delete from files where id = any (array(
    select id from files
    where status = 'expired' and created_at < now() - $2::interval
      and {HEARD_AT} < now() - $2::interval
    order by created_at limit $1 for update skip locked
))
"""  # noqa: S608 - the only value put in is our own constant


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
        return await self._delete(_DELETE_INGEST_IDS, limit)

    async def delete_progress(self, limit: int, age: timedelta) -> int:
        """
        Forget at most `limit` events of mere progress that are older than `age`.

        Raises:
            UnavailableError: The database is away.
        """
        return await self._delete(_DELETE_PROGRESS, limit, age)

    async def delete_files(self, limit: int, age: timedelta) -> int:
        """
        Forget at most `limit` files that expired longer than `age` ago.

        Raises:
            UnavailableError: The database is away.
        """
        return await self._delete(_DELETE_FILES, limit, age)

    async def _delete(self, sql: str, *arguments: object) -> int:
        async with self._pool.acquire() as connection:
            done = await connection.execute(sql, *arguments)
        return int(done.rpartition(" ")[2])
