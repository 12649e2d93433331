"""
Files that nobody has heard of for a while: what the reconciler looks into.

`files.deadline_at` says when a file is looked at next: after a silence that
doubles each time, up to a limit, and when its time is over.  Finding a file puts
that off for a little, so of several workers one gets it, and what a worker that
died had found is soon found again; whoever has looked into it puts it off for
as long as it may be silent now.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from gateway.model import FileId, FileRecord, Seq, Status
from gateway.store.pool import Pool
from gateway.store.records import HEARD_AT, file_record

_log = logging.getLogger("reelready.reconciler")

_CLAIM = f"""
with found as (
    select id, since + l.life as over,
        case when unanswered_since > greatest(since, now() - $5::interval)
            then now() - unanswered_since end as unanswered
    from files join unnest($2::text[], $3::interval[]) as l (name, life)
        on l.name = files.status
    cross join lateral (select {HEARD_AT} as since) s
    where deadline_at < now()
    order by deadline_at limit $1
    for update of files skip locked
)
update files f set deadline_at = now() + $4
from found
where f.id = any (array[found.id])
returning f.id, f.state, f.jobs, f.progressed_at, now() - over as late, unanswered,
    f.deadline_at
"""  # noqa: S608 - the only value put in is our own constant

# A little more than twice the silence: files that fell silent together are not
# looked at together for ever.  Who was heard of meanwhile has another time already.
# Reports lock in the order of ids, and so they are never waited for: whoever is
# locked is just heard of.  With `=`, the index of deadlines could be scanned as well.
_PUT_OFF = f"""
with looked as materialized (
    select f.id, over, now() + least(now() - since, $6) * (1 + random() / 5) as later,
        least(now(), since + l.life) + $7::interval as believed_until
    from unnest($1::text[], $2::timestamptz[], $3::boolean[]) as c (id, again_at, late)
    join files f on f.id = any (array[c.id])
    join unnest($4::text[], $5::interval[]) as l (name, life) on l.name = status
    cross join lateral (select {HEARD_AT} as since) s
    cross join lateral (select case when not late then since + l.life end as over) o
    where f.deadline_at is not distinct from again_at
    order by c.id
    for update of f skip locked
)
update files f set deadline_at = least(over, later), unanswered_since = believed_until
from looked
where f.id = any (array[looked.id])
"""  # noqa: S608 - as above

# Whoever is locked is just heard of, and whoever has another seq was.
_NOTE_AT_WORK = """
with told as materialized (
    select f.id
    from unnest($1::text[], $2::integer[]) as c (id, head)
    join files f on f.id = any (array[c.id])
    where f.seq = head
    order by c.id
    for update of f skip locked
)
update files f set unanswered_since = now() + $3::interval
from told
where f.id = any (array[told.id])
"""

# Of a job that another worker heard of while we asked, that one knows better.
_NOTE_UNANSWERED = """
with asked as materialized (
    select f.id, found_at
    from unnest($1::text[], $2::timestamptz[], $3::boolean[]) as c (id, found_at, knew)
    join files f on f.id = any (array[c.id])
    where knew or f.unanswered_since is null or f.unanswered_since < now()
    order by c.id
    for update of f skip locked
)
update files f set unanswered_since = found_at
from asked
where f.id = any (array[asked.id])
"""

UNANSWERED_LIFE = timedelta(minutes=8)
"""
So long is remembered that there was no answer, unless there is one; it takes less to
end a file.
"""


class SilentFile(Struct, frozen=True):
    """
    A file as it was found.

    Attributes:
        late: How long ago its time was over; negative while it is not.
        again_at: When it is found again, unless it is put off.
        unanswered: How long ago it was first asked about in vain, by any worker,
            since it was heard of; negative: AWS has said to one that its job is at
            work, which is believed for so long; None: neither.
    """

    record: FileRecord
    late: timedelta
    again_at: datetime
    unanswered: timedelta | None = None


class Silent:
    """
    Finds silent files.

    Args:
        deadlines: How long a file may be silent in each stage.
        again: A file that was found is found again this much later, unless it
            has ended or is put off.
        longest: A silence doubles up to this, or a fifth more.
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

        What cannot be read is logged and left out; it is found again later.

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
                UNANSWERED_LIFE,
            )
        files = []
        for row in rows:
            try:
                record = file_record(row["state"], row["jobs"], row["progressed_at"])
            except msgspec.DecodeError as error:
                # Of a later release, perhaps: it must not keep us from the others.
                _log.error("file %s cannot be read: %s", row["id"], error)
                continue
            files.append(
                SilentFile(record, row["late"], row["deadline_at"], row["unanswered"])
            )
        return files

    async def note_unanswered(self, files: Sequence[SilentFile]) -> None:
        """
        Keep in mind, for all workers, that files were asked about in vain.

        It is forgotten when they are heard of or put off, and after
        `UNANSWERED_LIFE`.  That their job is at work is believed no more.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._pool.acquire() as connection:
            await connection.execute(
                _NOTE_UNANSWERED,
                [file.record.state.id for file in files],
                [file.again_at - self._again for file in files],
                [file.unanswered is not None for file in files],
            )

    async def note_at_work(
        self, heads: Mapping[FileId, Seq], *, believed: timedelta
    ) -> None:
        """
        Keep in mind, for all workers, that jobs are at work, as `put_off` does.

        Args:
            heads: Files whose answer was news, and the seq that it was written by.
            believed: From now on, until they are heard of again.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._pool.acquire() as connection:
            await connection.execute(
                _NOTE_AT_WORK, list(heads), list(heads.values()), believed
            )

    async def put_off(
        self, files: Sequence[SilentFile], *, believed: timedelta | None = None
    ) -> None:
        """
        Leave files alone for a while that were looked into and are as they were.

        They are found again when their time is over; those that live on though
        it was over already, as if it were not.

        Args:
            believed: So long their jobs are taken to be at work, from now or from
                when their time was over, whichever worker has no answer: until
                they are heard of, or AWS says something else.  None: they have none.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._pool.acquire() as connection:
            await connection.execute(
                _PUT_OFF,
                [file.record.state.id for file in files],
                [file.again_at for file in files],
                [file.late >= timedelta(0) for file in files],
                list(self._deadlines),
                list(self._deadlines.values()),
                self._longest,
                believed,
            )
