"""
Files whose deadline has passed: what the reconciler asks for.

`files.deadline_at` is a hint for finding them; `Append` takes the row lock and
decides, so two workers that find the same file end it once.
"""

from gateway.model import FileId, Seq, Status
from gateway.store.pool import Pool

_OVERDUE = """
select id, status, seq from files
where deadline_at < now() order by deadline_at limit $1
"""


class Overdue:
    """Finds files that have been silent for too long."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __call__(self, limit: int) -> list[tuple[FileId, Status, Seq]]:
        """
        Name at most `limit` silent files, longest overdue first.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(_OVERDUE, limit)
        return [
            (FileId(row["id"]), Status(row["status"]), Seq(row["seq"])) for row in rows
        ]
