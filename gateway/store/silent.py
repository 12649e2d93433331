"""
Files that nobody has heard of for a while: what the reconciler looks into.

`files.deadline_at` says when a file is looked at next: after a silence that
doubles each time, up to a limit, and when its time is over.  Finding a file puts that off, so
of several workers one gets it, and what a worker that died had found is found
again.
"""

from collections.abc import Mapping
from datetime import timedelta

from msgspec import Struct

from gateway.model import FileRecord, Status
from gateway.store.pool import Pool
from gateway.store.records import file_record

# A little more than twice the silence: files that fell silent together are not
# looked at together for ever.
_CLAIM = """
with found as (
    select id, (state->>'updated_at')::timestamptz as since, l.life
    from files join unnest($2::text[], $3::interval[]) as l (name, life)
        on l.name = files.status
    where deadline_at < now()
    order by deadline_at limit $1
    for update of files skip locked
)
update files f
set deadline_at = case
    when since + life <= now() then now() + $4
    else least(since + life, now() + least(now() - since, $5) * (1 + random() / 5))
    end
from found
where f.id = found.id
returning f.state, f.jobs, f.progressed_at, now() - (since + life) as late
"""


class SilentFile(Struct, frozen=True):
    """
    A file as it was found.

    Attributes:
        late: How long ago its time was over; negative while it is not.
    """

    record: FileRecord
    late: timedelta


class Silent:
    """
    Finds silent files.

    Args:
        deadlines: How long a file may be silent in each stage.
        again: After its time was over, a file that has not ended is found again
            this much later.
        longest: Before that, a silence doubles up to this, or a fifth more.
    """

    def __init__(
        self,
        pool: Pool,
        deadlines: Mapping[Status, timedelta],
        *,
        again: timedelta,
        longest: timedelta,
    ) -> None:
        self._pool = pool
        self._deadlines = deadlines
        self._again = again
        self._longest = longest

    async def claim(self, limit: int) -> list[SilentFile]:
        """
        Take at most `limit` silent files, longest due first.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(
                _CLAIM,
                limit,
                list(self._deadlines),
                list(self._deadlines.values()),
                self._again,
                self._longest,
            )
        return [
            SilentFile(
                file_record(row["state"], row["jobs"], row["progressed_at"]),
                row["late"],
            )
            for row in rows
        ]
