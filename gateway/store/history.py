"""
Reads for subscribers: what the table holds beyond a cursor.

The answer to one (file, cursor) is whole or not at all: a hole anywhere in what is
retained after it is a reset to the current state, never a silent gap, and never some
events first, but for those it was told before the hole was made.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter

import asyncpg
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.model import FILE_ID, TERMINAL, Event, FileId, Reading, Seq
from gateway.protocol import sse
from gateway.protocol.cursor import CURRENT
from gateway.store.pool import Connection, Pool

MAX_PAGE_EVENTS = 100
MAX_PAGE_BYTES = 16 * 1024
"""
Of one reading, but one event at least; whoever wants more asks again from its last
seq.  It is what a reader who stops reading may keep in our memory.
"""


def _page(columns: str, *, after: str, unknown: str) -> str:
    """Write the SQL of a page of the events of ``f``; `unknown` is for no cursor of it."""
    return f"""(
    select {columns} from (
        select {columns},
               sum(octet_length(state::text)) over (order by seq)
               - octet_length(state::text) as before
        from (
            select {columns} from events
            where file_id = f.id and seq
                > case when {after} between 0 and f.seq then {after} else {unknown} end
            order by seq limit {MAX_PAGE_EVENTS}
        ) page
    ) measured
    where before < {MAX_PAGE_BYTES}
)"""  # noqa: S608 - all that is put in is our own


_READ = f"""
select c.place, f.seq as head, f.owner, f.status, e.seq, e.state
from unnest($1::text[], $2::integer[]) with ordinality as c (id, after, place)
join files f on f.id = any (array[c.id])
left join lateral {_page("seq, state", after="c.after", unknown="f.seq - 1")} e on true
order by c.place, e.seq
"""  # noqa: S608 - all that is put in is our own

_CUT_OFF = """
select c.id, c.after
from unnest($1::text[], $2::integer[], $3::integer[], $4::integer[])
    as c (id, after, last, head)
where (select count(*) from events where file_id = c.id and seq > last and seq <= head)
    < head - last
"""

_MOVED = """
select c.id, f.seq
from unnest($1::text[], $2::integer[], $3::integer[]) as c (id, low, high)
cross join lateral (select seq from files where id = c.id limit 1) f
where f.seq > c.low or f.seq < c.high
"""

_TOLD = "seq, type, sender, occurred_at, recorded_at, state"
_STORY = f"""
select f.state as file, f.seq as head, e.*
from files f
left join lateral {_page(_TOLD, after="$2::integer", unknown="0")} e on true
where f.id = $1 order by e.seq
"""  # noqa: S608 - all that is put in is our own


class StoryEvent(Struct, frozen=True):
    """One line of a file's story, as `reelready explain` shows it."""

    seq: int
    type: str
    sender: str | None
    occurred_at: datetime
    recorded_at: datetime
    state: msgspec.Raw


class Story(Struct, frozen=True):
    """
    One page of a file's story.

    Attributes:
        file: Its newest state.
        events: What is retained after the cursor, oldest first.
        after: The cursor to ask with next; the newest seq when nothing is left.
    """

    file: msgspec.Raw
    events: list[StoryEvent]
    after: int


class History:
    """Reads of the event log."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def read(
        self, cursors: Collection[tuple[FileId, int]]
    ) -> dict[tuple[FileId, int], Reading]:
        """
        Read many (file, cursor) pairs at once.

        Args:
            cursors: A seq, or `CURRENT` or `UNKNOWN` of `protocol.cursor`.

        Returns:
            A reading per pair; files that do not exist are left out.

        Raises:
            UnavailableError: The database is away.
        """
        pairs = [pair for pair in cursors if FILE_ID.fullmatch(pair[0])]
        async with self._pool.acquire() as connection:
            readings = await _read(connection, pairs)
            pages = {
                pair: reading
                for pair, reading in readings.items()
                if reading.events and reading.events[-1].seq < reading.head
            }
            if pages and (broken := await _broken(connection, pages)):
                current = await _read(connection, [(one, CURRENT) for one, _ in broken])
                for pair in broken:
                    if now := current.get((pair[0], CURRENT)):
                        readings[pair] = replace(now, reset="pruned_cursor")
        return readings

    async def moved(self, seen: Mapping[FileId, tuple[Seq, Seq]]) -> dict[FileId, Seq]:
        """
        Name the files whose newest seq is not the one that everybody has seen.

        Args:
            seen: The lowest and the highest seq that somebody has of each file.

        Raises:
            UnavailableError: The database is away.
        """
        lows, highs = (
            [low for low, _ in seen.values()],
            [top for _, top in seen.values()],
        )
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(_MOVED, list(seen), lows, highs)
        return {FileId(row["id"]): Seq(row["seq"]) for row in rows}

    async def story(self, file_id: FileId, after: int) -> Story | None:
        """
        Tell a page of what is retained of one file; None if there is no such file.

        Args:
            after: A seq; any other cursor begins with the oldest event.

        Raises:
            UnavailableError: The database is away.
        """
        async with self._pool.acquire() as connection:
            rows = await connection.fetch(_STORY, file_id, after)
        if not rows:
            return None
        events = [
            StoryEvent(
                row["seq"],
                row["type"],
                row["sender"],
                row["occurred_at"],
                row["recorded_at"],
                msgspec.Raw(row["state"]),
            )
            for row in rows
            if row["seq"] is not None
        ]
        newest = rows[0]
        return Story(
            file=msgspec.Raw(newest["file"]),
            events=events,
            after=events[-1].seq if events else newest["head"],
        )


async def _read(
    connection: Connection, pairs: Sequence[tuple[FileId, int]]
) -> dict[tuple[FileId, int], Reading]:
    rows = await connection.fetch(
        _READ, [file_id for file_id, _ in pairs], [after for _, after in pairs]
    )
    return {
        pairs[place - 1]: _reading(pairs[place - 1][1], list(group))
        for place, group in groupby(rows, key=itemgetter("place"))
    }


async def _broken(
    connection: Connection, pages: Mapping[tuple[FileId, int], Reading]
) -> list[tuple[FileId, int]]:
    """Name the cursors of pages from which not all is there to the head."""
    rows = await connection.fetch(
        _CUT_OFF,
        [file_id for file_id, _ in pages],
        [after for _, after in pages],
        [reading.events[-1].seq for reading in pages.values()],
        [reading.head for reading in pages.values()],
    )
    holes = {(FileId(row["id"]), row["after"]) for row in rows}
    return [pair for pair, page in pages.items() if page.reset or pair in holes]


def _reading(after: int, rows: list[asyncpg.Record]) -> Reading:
    head = Seq(rows[0]["head"])
    events = tuple(
        [
            Event(row["seq"], row["state"], sse.event(row["seq"], row["state"]))
            for row in rows
            if row["seq"] is not None
        ]
    )
    reset = _reset(after, head, events)
    if reset is not None:
        events = events[-1:]
    return Reading(
        head=head,
        owner=rows[0]["owner"],
        events=events,
        reset=reset,
        terminal=rows[0]["status"] in TERMINAL,
    )


def _reset(after: int, head: Seq, events: tuple[Event, ...]) -> str | None:
    if after == CURRENT:
        return None
    if not 0 <= after <= head:
        return "unknown_cursor"
    gapless = range(after + 1, after + 1 + len(events))
    if [event.seq for event in events] != list(gapless) or (
        not events and after < head
    ):
        return "pruned_cursor"
    return None
